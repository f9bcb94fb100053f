"""Ablation-CAM three ways: closed form, the whole network run with each channel silenced, known defects of a peer."""

import pytest
import torch
from torch import nn

from medxai.attribution.ablation import AblationCAM
from medxai.core.target import ClassScore
from tests.networks import CONV, LAYER, images, net
from tests.reference.helpers import relative, seen_batches

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


@DIMENSIONS
def test_weights_of_a_linear_head_in_closed_form(ndim):
    """y = <W, A> + c loses <W_k, A_k - value> with channel k."""
    torch.manual_seed(1)
    shape = (4, 3, 5)[:ndim]
    x = torch.rand(1, 1, *shape)
    model = nn.Sequential(CONV[ndim](1, 3, 1), nn.Flatten(), nn.Linear(3 * x.numel(), 2))
    A = model[0](x).detach()[0]
    W = model[2].weight[1].detach().view(3, *shape)
    y = model(x)[0, 1].detach()
    for value, silent in (("zero", 0), ("minimum", A.flatten(1).amin(1)), ("mean", A.flatten(1).mean(1))):
        kept = torch.as_tensor(silent).expand(3).view(3, *[1] * ndim)
        weights = (W * (A - kept)).flatten(1).sum(1) / y.abs()
        expected = torch.einsum("k,k...->...", weights, A)
        found = AblationCAM(layer="0", relu=False, value=value)(model, x, ClassScore(1)).maps[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


class FirstOutput(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x)[0]


def silenced(model, x, layer, channel):
    def silence(_module, _args, output):
        output = output.clone()
        output[:, channel] = 0
        return output

    handle = model.get_submodule(layer).register_forward_hook(silence)
    try:
        with torch.no_grad():
            return model(x)
    finally:
        handle.remove()


@DIMENSIONS
def test_equals_the_whole_network_with_each_channel_silenced(ndim):
    model, x, layer = net(ndim).eval(), images(ndim), "2"
    y, A = model(x).detach(), model[:3](x).detach()
    expected = torch.zeros_like(A[:, 0])
    for k in range(A.shape[1]):
        weight = (y - silenced(model, x, layer, k)) / y.abs()
        expected += torch.stack([weight[0, 2], weight[1, 0]]).view(2, *[1] * ndim) * A[:, k]
    found = AblationCAM(layer=layer, relu=False)(model, x, ClassScore((2, 0)))
    assert relative(found.maps, expected) <= 1e-4


def test_a_dense_block_is_resumed_and_all_targets_share_the_sweep():
    from monai.networks.nets import DenseNet

    torch.manual_seed(0)
    model = DenseNet(2, 1, 14, init_features=16, growth_rate=8, block_config=(2, 2)).eval()
    x, layer = torch.rand(1, 1, 32, 32), "class_layers.relu"
    method = AblationCAM(layer=layer, relu=False, voxels=4 * 32 * 32)
    with seen_batches(model.features.conv0) as whole, seen_batches(model.class_layers.out) as suffix:
        found = method.attribute(model, x, [ClassScore(c) for c in range(14)])
    channels = int(found[0].details["ablations"])
    assert channels > 20
    assert len(whole) < 10  # the clean pass, the trace, and what it takes to trust a replay: not one per channel
    assert suffix[-channels // 4 :] == [4] * (channels // 4) + [channels % 4] * bool(channels % 4)
    y, A = model(x).detach(), model.features(x).relu().detach()
    lost = [(y - silenced(model, x, layer, k)) / y.abs() for k in range(A.shape[1])]
    for c, one in enumerate(found):
        expected = sum(weight[0, c] * A[0, k] for k, weight in enumerate(lost))
        assert relative(one.maps[0], expected) <= 1e-4


@DIMENSIONS
def test_a_negative_score_does_not_turn_the_map_over(ndim):
    """pytorch-grad-cam divides by y itself: shifting a logit below 0 turns evidence for into evidence against."""
    model, x = net(ndim), images(ndim)
    before = AblationCAM(layer=LAYER, relu=False)(model, x, ClassScore(1)).maps
    with torch.no_grad():
        model[8].bias[1] -= 100
    after = AblationCAM(layer=LAYER, relu=False)(model, x, ClassScore(1))
    assert bool((after.scores < 0).all())
    for one, other in zip(before, after.maps, strict=True):
        correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
        assert correlation > 0.999


@DIMENSIONS
def test_a_silent_channel_is_not_run(ndim):
    model, x = net(ndim), images(ndim, batch=1)
    with torch.no_grad():
        model[3].weight[[0, 3]] = 0
        model[3].bias[[0, 3]] = -1
    with seen_batches(model[5]) as batches:
        found = AblationCAM(layer=LAYER, voxels=1)(model, x, ClassScore(1))
    live = int((model.eval()[:5](x).flatten(2).amax(2) > 0).sum())
    assert live <= 4
    assert found.details["ablations"].tolist() == [live]
    assert batches[-live:] == [1] * live


def test_a_layer_of_tokens():
    from monai.networks.nets import ViT

    torch.manual_seed(0)
    vit = ViT(1, (16, 16, 16), (8, 8, 8), hidden_size=24, mlp_dim=32, num_layers=2, num_heads=2, classification=True)
    model = FirstOutput(vit)
    x = torch.rand(1, 1, 16, 16, 16)
    found = AblationCAM(layer="body.blocks.0", relu=False)(model, x, ClassScore(0))
    assert found.maps.shape == (1, 2, 2, 2)
    assert found.status[0].ok
