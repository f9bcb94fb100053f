"""Layers that emit tokens: where they lie, which of them the output reads, and what it answers."""

import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR, ViT

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.layer import Footprint, Layout
from medxai.core.target import ClassScore
from medxai.model.layers import find_row, located
from medxai.model.tap import tapped
from medxai.model.trace import trace

SIZE = (64, 48, 32)
GRID = (4, 3, 2)


def vit(ndim, depth=3):
    torch.manual_seed(0)
    size = SIZE[:ndim]
    return ViT(1, size, (16,) * ndim, 48, 96, depth, 4, classification=True, spatial_dims=ndim, post_activation="none")


def images(ndim, batch=2):
    return torch.rand(batch, 1, *SIZE[:ndim], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ndim", [2, 3])
def test_auto_of_a_class_token_is_the_last_block_that_attention_still_reads(ndim):
    traced = trace(vit(ndim), (1, 1, *SIZE[:ndim]))
    layer = located(traced, "auto")
    assert layer.name == "blocks.1"
    assert layer.layout == Layout("tokens", 1, GRID[:ndim])
    assert layer.footprint == Footprint((7.5,) * ndim, (16.0,) * ndim, GRID[:ndim])
    assert ["attention" in notice for notice in layer.notices] == [True]


@pytest.mark.parametrize("ndim", [2, 3])
def test_patch_gradients_are_alive_at_auto_and_exactly_zero_where_only_the_class_token_is_read(ndim):
    model = tapped(vit(ndim), 0, (1, 1, *SIZE[:ndim]))
    found = GradCAM(relu=False)(model, images(ndim), ClassScore(1))
    assert (found.layer, found.maps.shape[1:]) == ("blocks.1", GRID[:ndim])
    assert all(status.ok for status in found.status)
    assert bool((found.maps.flatten(1) != 0).all())
    for late in ("blocks.2", "norm"):
        silent = GradCAM(layer=late)(model, images(ndim), ClassScore(1))
        assert [status.reason for status in silent.status] == ["zero gradient"] * 2
        assert any("exactly zero there" in notice for notice in silent.notices)


def test_map_of_tokens_is_grad_cam_of_the_tokens_written_out():
    model, x = vit(2).eval(), images(2)
    kept = []
    handle = model.blocks[1].register_forward_hook(
        lambda _m, _a, out: kept.append(out.detach().requires_grad_()) or kept[0]
    )
    model(x)[0][:, 1].sum().backward()
    handle.remove()
    (tokens,) = kept
    weights = tokens.grad[:, 1:].mean(1)
    by_hand = torch.stack(
        [
            torch.stack([torch.stack([tokens[b, 1 + i * 3 + j] @ weights[b] for j in range(3)]) for i in range(4)])
            for b in range(2)
        ]
    )
    found = GradCAM(relu=False)(tapped(model, 0, x.shape), x, ClassScore(1))
    torch.testing.assert_close(found.maps, by_hand.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_each_token_looks_at_its_patch(ndim):
    """Moving light from patch to patch moves the one token of the embedding that answers."""
    model, size = vit(ndim), SIZE[:ndim]
    layer = located(trace(model, (1, 1, *size)), "patch_embedding")
    place = layer.footprint
    dark = model.eval().patch_embedding(torch.zeros(1, 1, *size))
    for cell in [(0,) * ndim, (2, 1, 0)[:ndim], (3, 2, 1)[:ndim]]:
        image = torch.zeros(1, 1, *size)
        voxel = [int(s + j * c) for s, j, c in zip(place.start, place.jump, cell, strict=True)]
        image[(0, 0, *voxel)] = 1
        answer = layer.layout.read(model.patch_embedding(image) - dark).abs().sum(1)[0]
        assert answer.nonzero().tolist() == [list(cell)]


@pytest.mark.parametrize("ndim", [2, 3])
def test_unetr_is_explained_at_its_last_token_block(ndim):
    size = (32, 48, 64)[:ndim]
    model = UNETR(1, 2, size, feature_size=4, hidden_size=24, mlp_dim=32, num_heads=4, spatial_dims=ndim)
    layer = located(trace(model, (1, 1, *size)), "auto")
    assert (layer.name, layer.layout) == ("vit.blocks.11", Layout("tokens", 0, (2, 3, 4)[:ndim]))


@pytest.mark.parametrize("ndim", [2, 3])
def test_swin_blocks_hold_their_channels_last(ndim):
    model = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, spatial_dims=ndim)
    row = find_row(trace(model, (1, 1, *(64,) * ndim)), "swinViT.layers2.0.blocks.1")
    assert (row.layout, row.footprint.shape) == (Layout("channels last"), (16,) * ndim)
