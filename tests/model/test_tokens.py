"""Layers that emit tokens: where they lie, which of them the output reads, and what it answers."""

from dataclasses import replace

import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR, ViT
from torch import nn

from medxai.attribution.gradient_cams import GradCAM, HiResCAM
from medxai.core.layer import Footprint, Layer, Layout
from medxai.core.target import ClassScore, NeuronScore
from medxai.errors import DisconnectedError, FootprintError, LayerError, LayerNotFoundError, TargetError
from medxai.model.layers import find_row, located, put, resolve_layer
from medxai.model.load import weights_sha256
from medxai.model.tap import tapped
from medxai.model.trace import trace
from tests.transformers import PatchMerging, Swin, TimmMerging, TimmViT, TorchvisionViT

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


FLAT = (48, 32)
FLAT_GRID = (6, 4)


@pytest.mark.parametrize(
    ("model", "name", "prefix"),
    [
        (TimmViT(FLAT_GRID), "blocks.1", 1),
        (TimmViT(FLAT_GRID, registers=4), "blocks.1", 5),
        (TimmViT(FLAT_GRID, registers=4, pool="avg"), "norm", 5),
        (TorchvisionViT(FLAT_GRID), "encoder.layers.1", 1),
    ],
    ids=["timm", "registers", "averaged", "torchvision"],
)
def test_prefix_is_counted_from_what_is_put_before_the_patches(model, name, prefix):
    layer = located(trace(model, (1, 1, *FLAT)), "auto")
    assert (layer.name, layer.layout) == (name, Layout("tokens", prefix, FLAT_GRID))
    assert layer.footprint == Footprint((3.5, 3.5), (8.0, 8.0), FLAT_GRID)
    x = torch.rand(2, 1, *FLAT, generator=torch.Generator().manual_seed(1))
    found = GradCAM(relu=False)(model, x, ClassScore(1))
    assert all(status.ok for status in found.status)
    assert bool((found.maps.flatten(1) != 0).all())


def test_auto_of_a_single_block_is_its_patches():
    assert located(trace(TimmViT(FLAT_GRID, depth=1), (1, 1, *FLAT)), "auto").name == "patch_embed.proj"


@pytest.mark.parametrize("merging", [PatchMerging, TimmMerging])
def test_swin_is_explained_channels_last_where_its_cells_look(merging):
    model, size = Swin(merging), (64, 96)
    layer = located(trace(model, (1, 1, *size)), "auto")
    assert (layer.name, layer.layout) == ("norm", Layout("channels last"))
    assert layer.footprint == Footprint((3.5, 3.5), (8.0, 8.0), (8, 12))
    assert not any("can no longer be placed" in notice for notice in layer.notices)
    x = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(1))
    features = model.norm(model.layers(model.embed(x).permute(0, 2, 3, 1)))[0].detach()
    by_hand = (features @ model.head.weight[2] / (8 * 12)).detach()
    for method in (GradCAM(relu=False), HiResCAM(relu=False)):
        torch.testing.assert_close(method(model, x, ClassScore(2)).maps[0], by_hand, rtol=1e-4, atol=1e-6)


def test_patches_that_a_view_cuts_out_are_placed_like_those_of_a_convolution():
    size, own = (32, 16, 24), {"hidden_size": 24, "mlp_dim": 32, "num_layers": 2, "num_heads": 2}
    model = ViT(1, size, (8, 8, 8), proj_type="perceptron", classification=True, **own)
    layer = located(trace(model, (1, 1, *size)), "auto")
    assert layer == replace(layer, name="blocks.0", layout=Layout("tokens", 1, (4, 2, 3)))
    assert layer.footprint == Footprint((3.5,) * 3, (8.0,) * 3, (4, 2, 3))


def test_what_picks_inner_cells_of_a_cut_axis_loses_its_place():
    class Picks(Swin):
        def forward(self, x):
            x = self.embed(x)
            b, c, h, w = x.shape
            x = x.view(b, c, h // 2, 2, w // 2, 2)[:, :, :, 0, :, 0]
            return self.head(torch.cat([x, x], 1).mean((2, 3)))

    class Crossed(Swin):
        """The halves of the rows become columns."""

        def forward(self, x):
            x = self.embed(x)
            b, c, h, w = x.shape
            x = x.view(b, c, h // 2, 2, w).transpose(3, 4).reshape(b, c, h // 2, 2 * w)
            return self.head(self.pool(torch.cat([x, x], 1)).mean((2, 3)))

    for build in (Picks, Crossed):
        model = build()
        model.pool = torch.nn.MaxPool2d(1)
        layer, notices = resolve_layer(trace(model, (1, 1, 64, 96)), "auto")
        assert layer == "embed"
        assert build is Picks or any("can no longer be placed" in notice for notice in notices)


def test_a_grid_may_be_given_and_lies_where_the_map_before_it_lies():
    class Hidden(TimmViT):
        """Looks its tokens up, which cannot be followed."""

        def forward(self, x):
            x = self.patch_embed(x)
            x = self.blocks[0](x[:, torch.arange(x.shape[1], device=x.device)])
            return self.head(self.norm(x).mean(1))

    traced = trace(Hidden(FLAT_GRID), (1, 1, *FLAT))
    with pytest.raises(LayerError, match=r"say so: Layer\(name, Layout"):
        located(traced, "blocks.0")
    layer = put(traced, Layer("blocks.0", Layout("tokens", 0, FLAT_GRID)))
    assert layer.footprint == Footprint((3.5, 3.5), (8.0, 8.0), FLAT_GRID)
    assert "as was given" in layer.notices[0]
    with pytest.raises(FootprintError, match=r"the grid \(3, 8\)"):
        put(traced, Layer("blocks.0", Layout("tokens", 0, (3, 8))))


class Answers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act, self.head = torch.nn.Conv2d(1, 4, 3, 2), torch.nn.ReLU(), torch.nn.Linear(4, 3)

    def forward(self, x):
        features = self.act(self.conv(x))
        return {"logits": self.head(features.mean((2, 3))), "more": (features, [features.mean(1)])}


def test_outputs_are_reached_by_key_index_path_and_layer():
    model, x = Answers().eval(), torch.rand(2, 1, 9, 11)
    whole = model(x)
    cases = {
        "logits": whole["logits"],
        ("more", 0): whole["more"][0],
        ("more", 1, -1): whole["more"][1][0],
        Layer("act"): whole["more"][0],
    }
    for part, wanted in cases.items():
        assert torch.equal(tapped(model, part, x.shape)(x), wanted)
    twin = tapped(model, "logits", x.shape)
    assert [name for name, _ in twin.named_modules()] == [name for name, _ in model.named_modules()]
    assert weights_sha256(twin) == weights_sha256(model)
    assert isinstance(model(x), dict)
    found = GradCAM(layer="act", relu=False)(twin, x, ClassScore(1)).maps
    torch.testing.assert_close(found, torch.einsum("bkhw,k->bhw", whole["more"][0], model.head.weight[1] / 20).detach())


def test_a_root_in_training_mode_is_explained_in_eval_mode_and_stays_as_it_was():
    class Drops(Answers):
        def forward(self, x):
            return (torch.nn.functional.dropout(super().forward(x)["logits"], 0.5, self.training),)

    model, x = Drops().train(), torch.rand(2, 1, 9, 11)
    first, second = (GradCAM(layer="act")(tapped(model, 0, x.shape), x, ClassScore(1)).scores for _ in range(2))
    assert torch.equal(first, second)
    assert model.training


def test_neuron_of_a_token_layer_is_explained_at_an_earlier_one():
    model, x = vit(2).eval(), images(2)
    inner = tapped(model, Layer("blocks.1"), x.shape)
    assert torch.equal(inner(x), Layout("tokens", 1, GRID[:2]).read(model(x)[1][1]))
    score = NeuronScore(5, (2, 1))
    found = GradCAM(layer="blocks.0", relu=False)(inner, x, score)
    torch.testing.assert_close(found.scores, model(x)[1][1][:, 1 + 2 * 3 + 1, 5].detach())
    assert found.status[0].ok
    with pytest.raises(DisconnectedError):
        GradCAM(layer="norm")(inner, x, score)


@pytest.mark.parametrize(
    ("part", "error", "found"),
    [
        ("logit", TargetError, r"keys \['logits', 'more'\]"),
        (("more", 2), TargetError, "0 to 1, of a tuple"),
        (("logits", 0), TargetError, "no part at all: it is a Tensor"),
        (Layer("acts"), LayerNotFoundError, "act"),
    ],
)
def test_a_part_that_is_not_there(part, error, found):
    with pytest.raises(error, match=found):
        tapped(Answers(), part, (1, 1, 9, 11))(torch.rand(1, 1, 9, 11))


class Mixer(nn.Module):
    """Tokens or channels last, mixed by linear layers, without a norm that would betray it."""

    def __init__(self, last):
        super().__init__()
        self.patches, self.mix, self.act, self.head = nn.Conv2d(1, 6, 4, 4), nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 3)
        self.last = last

    def forward(self, x):
        cells = self.patches(x).movedim(1, -1)
        cells = self.act(self.mix(cells if self.last else cells.flatten(1, 2)))
        return self.head(cells.flatten(1, -2).mean(1))


@pytest.mark.parametrize("last", [True, False])
def test_a_named_layer_behind_a_linear_one_is_read_with_its_channels_last(last):
    torch.manual_seed(0)
    model, x = Mixer(last).eval(), torch.rand(2, 1, 12, 20)
    A = model.act(model.mix(model.patches(x).movedim(1, -1))).detach()
    for layer in ("act", Layer("act"), put(trace(model, x.shape), Layer("act"))):
        found = GradCAM(layer=layer, relu=False)(model, x, ClassScore(1)).maps
        torch.testing.assert_close(found, (A * model.head.weight[1]).sum(-1).detach() / 15)


def test_slices_that_are_a_batch_of_their_own_are_no_map_of_the_volume():
    class Slices(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, x):
            found = self.conv(x.movedim(2, 1).flatten(0, 1)).amax((2, 3))
            return self.head(found.view(len(x), -1, 4).mean(1))

    with pytest.raises(LayerError, match="no map of these images"):
        GradCAM(layer="conv")(Slices().eval(), torch.rand(2, 1, 5, 8, 8), ClassScore(1))


def test_auto_of_an_inner_output_is_a_layer_before_it():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    traced = trace(tapped(model, Layer("2"), (1, 1, 20, 20)), (1, 1, 20, 20))
    assert resolve_layer(traced, "auto") == ("1", ())
