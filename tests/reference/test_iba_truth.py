"""What a bottleneck finds where the evidence is known, how it turns with the image, and how its gate is smoothed."""

import pytest
import torch
from monai.networks.blocks import PatchEmbeddingBlock
from torch import nn

from medxai.attribution.bottleneck.gate import Gate, smooth
from medxai.attribution.bottleneck.iba import IBA, InverseIBA
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.core.target import ClassScore
from medxai.model.guard import seeded
from tests.networks import LAYER, images, net, rising, symmetric

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
BRIEF = {"beta": 0.1, "steps": 6, "copies": 2}


def attributed(method, model, x):
    with seeded(0, x.device):
        return method(model, x, ClassScore(1))


@DIMENSIONS
@pytest.mark.parametrize("method", [IBA, InverseIBA])
def test_a_flipped_image_with_flipped_noise_has_the_flipped_map(method, ndim, monkeypatch):
    model, x = symmetric(rising(net(ndim))), images(ndim)
    expected = attributed(method(layer=LAYER, **BRIEF), model, x).maps
    draw = NoisyLayer.draw
    for axis in range(1, ndim + 1):
        with monkeypatch.context() as patch:
            patch.setattr(
                NoisyLayer, "draw", lambda self, copies, dice, _over=None, a=axis: draw(self, copies, dice).flip(-a)
            )
            found = attributed(method(layer=LAYER, **BRIEF), model, x.flip(-axis)).maps
        torch.testing.assert_close(found.flip(-axis), expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    assert not torch.allclose(found, expected, rtol=0.01)


def test_a_map_smaller_than_the_kernel_could_not_be_padded():
    """Reflection needs more cells than the kernel reaches; there the border is repeated."""
    values = torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 3, 1)
    weights = [torch.tensor(-(i**2) / 8.0).exp() for i in range(-4, 5)]
    repeated = [1, 1, 1, 1, 1, 2, 4, 4, 4, 4, 4]
    expected = [sum(w * repeated[i + j] for j, w in enumerate(weights)) / sum(weights) for i in range(3)]
    torch.testing.assert_close(smooth(values, (2.0, 2.0)).flatten(), torch.stack(expected))


def test_a_kernel_narrower_than_its_cell_is_none():
    values = torch.rand(1, 2, 6, 7)
    assert torch.equal(smooth(values, (0.29, 0.0)), values)
    assert not torch.allclose(smooth(values, (0.31, 0.0)), values, atol=1e-4)


def test_the_gate_was_smoothed_for_every_copy_of_the_noise(monkeypatch):
    counts, of = list[int](), Gate.of
    for copies in (1, 8):
        rows = list[int]()
        with monkeypatch.context() as patch:
            patch.setattr(Gate, "of", lambda alpha, sigma, into=rows: into.append(len(alpha)) or of(alpha, sigma))
            attributed(IBA(layer=LAYER, beta=0.1, steps=5, copies=copies), rising(net(2)), images(2))
        counts.append(sum(rows))
    assert counts == [2 * (5 + 1)] * 2  # of two images: at each step, and at the end


class Patches(nn.Module):
    """Tokens of 4 voxels a side, which attend to each other in vain; the answer is how much of them is bright."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.tokens = PatchEmbeddingBlock(1, (24,) * ndim, 4, 16, 1, spatial_dims=ndim)
        self.mix = nn.MultiheadAttention(16, 2, batch_first=True)
        with torch.no_grad():
            self.tokens.position_embeddings.zero_()
            self.tokens.patch_embeddings.weight[0] = 1 / 4**ndim
            self.tokens.patch_embeddings.bias.zero_()
            self.mix.out_proj.weight.zero_()

    def forward(self, x):
        tokens = self.tokens(x)
        mixed = tokens + self.mix(tokens, tokens, tokens)[0]
        bright = 10 * (mixed[..., 0] - 0.6).relu().mean(1)
        return torch.stack([-bright, bright], 1)


@DIMENSIONS
@pytest.mark.parametrize("method", [IBA, InverseIBA])
def test_of_tokens_those_that_lie_on_the_evidence_hold_the_bits(method, ndim):
    x = torch.rand(1, 1, *(24,) * ndim, generator=torch.Generator().manual_seed(2)) * 0.6
    place = (slice(8, 16),) * ndim
    x[(0, 0, *place)] = 1.0
    settings = {"beta": 1.0, "steps": 30, "copies": 16, "sigma": 0.0}
    found = attributed(method(layer="tokens", **settings), Patches(ndim).eval(), x)
    assert found.maps.shape == (1, *(6,) * ndim)
    inside = found.maps[(0, *[slice(2, 4)] * ndim)].sum()
    assert found.status[0].ok
    assert float(inside / found.maps.sum()) > 0.8
