"""The map of many windows is the map of the whole image wherever the windows see enough of it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from medxai.attribution.class_activation import CAM
from medxai.attribution.gradient_cams import GradCAM, HiResCAM, LayerCAM
from medxai.attribution.tiled import Tiled
from medxai.attribution.tiles import Axis
from medxai.core.layer import Footprint
from medxai.core.target import ClassScore, RegionScore
from medxai.errors import GeometryError, LayerError, ModelError, UsageError
from tests.networks import CONV

METHODS = [GradCAM, HiResCAM, LayerCAM]
SIZE = (40, 32, 36)


class Segmenter(nn.Module):
    """Two convolutions, the second strided ("act"), linear up, one more: an output sees 6 voxels to each side."""

    def __init__(self, ndim):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = CONV[ndim](1, 4, 3, padding=1), CONV[ndim](4, 5, 3, stride=2, padding=1)
        self.act, self.last = nn.ReLU(), CONV[ndim](5, 3, 3, padding=1)
        self.level = nn.Parameter(torch.zeros(3))
        self.up = nn.Upsample(scale_factor=2, mode={2: "bilinear", 3: "trilinear"}[ndim])

    def forward(self, x):
        logits = self.last(self.up(self.act(self.second(torch.relu(self.first(x))))))
        return logits - self.level.view(-1, *[1] * (x.ndim - 2))

    def balanced(self, x):
        """With every class winning somewhere."""
        with torch.no_grad():
            self.level.copy_(self(x).transpose(0, 1).flatten(1).mean(1))
        return self


class PatchClassifier(nn.Module):
    """Patches of 4 that never meet before the mean: equal windows side by side make up the whole."""

    def __init__(self, ndim):
        super().__init__()
        torch.manual_seed(0)
        self.patch, self.act, self.mix = CONV[ndim](1, 6, 4, stride=4), nn.ReLU(), CONV[ndim](6, 6, 1)
        self.out, self.head = nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.out(self.mix(self.act(self.patch(x)))).flatten(2).mean(2))


def images(ndim, size=SIZE):
    return torch.rand(2, 1, *size[:ndim], generator=torch.Generator().manual_seed(1))


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("blend", ["constant", "gaussian"])
def test_segmenter_in_windows_is_the_segmenter_at_once(method, ndim, blend):
    x, target = images(ndim), RegionScore(1)
    model = Segmenter(ndim).balanced(x)
    inner = method(layer="act", relu=False)
    whole = inner(model, x, target)
    tiled = Tiled(inner, window=26, overlap=0.1, blend=blend, margin=6)(model, x, target)
    torch.testing.assert_close(tiled.scores, whole.scores, rtol=1e-4, atol=1e-4)
    assert tiled.maps.shape == whole.maps.shape
    assert relative(tiled.maps, whole.maps) <= 1e-5
    assert tiled.footprint == Footprint((0.0,) * ndim, (2.0,) * ndim, tuple(n // 2 for n in SIZE[:ndim]))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_classifier_of_patches_in_windows_is_the_classifier_at_once(method, ndim):
    model, x = PatchClassifier(ndim), images(ndim, (32, 24, 16))
    inner = method(layer="act", relu=False)
    whole = inner(model, x, ClassScore((2, 1)))
    tiled = Tiled(inner, window=8, overlap=0)(model, x, ClassScore((2, 1)))
    torch.testing.assert_close(tiled.scores, whole.scores, rtol=1e-5, atol=1e-6)
    assert relative(tiled.maps, whole.maps) <= 1e-5


def test_score_is_that_of_the_blended_output_and_the_gradient_is_its_own():
    """Without margin, windows disagree; the joined gradient is that of the blended score, by every window's layer."""
    model, x = Segmenter(2).eval(), images(2)[:1]
    starts = [(i, j) for i in (0, 12, 16) for j in (0, 8)]
    total, count, layers = torch.zeros(1, 3, 40, 32), torch.zeros(40, 32), []
    for i, j in starts:
        place = (..., slice(i, i + 24), slice(j, j + 24))
        layers.append(model.act(model.second(torch.relu(model.first(x[place])))).detach().requires_grad_())
        total[place] = total[place] + model.last(model.up(layers[-1]))
        count[place] += 1
    score = (total / count)[0, 1, 15:25, 10:20].sum()
    gradients = torch.autograd.grad(score, layers)
    A, G, held = torch.zeros(1, 5, 20, 16), torch.zeros(1, 5, 20, 16), torch.zeros(20, 16)
    for (i, j), layer, gradient in zip(starts, layers, gradients, strict=True):
        place = (..., slice(i // 2, i // 2 + 12), slice(j // 2, j // 2 + 12))
        A[place] += layer.detach()
        G[place] += gradient
        held[place] += 1
    region = torch.zeros(40, 32, dtype=torch.bool)
    region[15:25, 10:20] = True
    found = Tiled(HiResCAM(layer="act", relu=False), window=24, overlap=0.5)(model, x, RegionScore(1, region))
    torch.testing.assert_close(found.scores[0], score.detach())
    torch.testing.assert_close(found.maps, (A / held * G).sum(1), rtol=1e-4, atol=1e-6)


def test_two_targets_share_the_windows():
    model, x, calls = Segmenter(2), images(2), []
    model.last.register_forward_hook(lambda *_: calls.append(1))
    tiled = Tiled(GradCAM(layer="act", relu=False), window=26, margin=6)
    both = tiled.attribute(model, x, [RegionScore(0), RegionScore(1)])
    calls_together = len(calls)
    alone = tiled(model, x, RegionScore(1))
    assert torch.equal(both[1].maps, alone.maps)
    assert len(calls) == 2 * calls_together


def test_only_one_window_keeps_a_graph():
    model, x, alive, peaks = Segmenter(2), images(2), set(), []

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor
            alive.add(id(self))

        def __del__(self):
            alive.discard(id(self))

    model.first.register_forward_pre_hook(lambda *_: peaks.append(len(alive)))
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        Tiled(GradCAM(layer="act"), window=26, margin=6)(model, x, RegionScore(1))
    windows = len(peaks) - 1  # the trace runs without values
    assert windows == 2 * 4
    assert max(peaks) <= peaks[-1]
    assert peaks[-1] <= 12


@pytest.mark.parametrize("margin", [0, 3])
@pytest.mark.parametrize("blend", ["constant", "gaussian"])
def test_shares_add_up_to_one_everywhere(blend, margin):
    axis = Axis.covering(50, 20, 12, margin, blend)
    assert axis.starts == (0, 12, 24, 30)
    total = torch.zeros(25)
    for offset, share in zip(axis.offsets(2.0), axis.shares(0.5, 2.0, 10), strict=True):
        total[offset : offset + 10] += share
    torch.testing.assert_close(total, torch.ones(25))


def test_image_smaller_than_the_window_is_one_window():
    x = images(2)
    model, inner = Segmenter(2).balanced(x), LayerCAM(layer="act")
    tiled = Tiled(inner, window=(26, 64), margin=6)
    assert tiled.seen((2, 1, 40, 32)) == (2, 1, 26, 32)
    assert relative(tiled(model, x, RegionScore(1)).maps, inner(model, x, RegionScore(1)).maps) <= 1e-5


def tiled(**given):
    return Tiled(GradCAM(layer="act"), **{"window": 26, **given})


@pytest.mark.parametrize(
    ("make", "error", "found"),
    [
        (lambda: tiled(margin=13), UsageError, "advance by at least 2 voxels"),
        (lambda: tiled(window=(26, 26, 26)), UsageError, "window does not fit"),
        (lambda: tiled(memory=1000), UsageError, "does not fit into the memory.*deeper layer"),
        (lambda: tiled(overlap=1.0), UsageError, "overlap is a share"),
        (lambda: Tiled(CAM(layer="act"), window=26), LayerError, "cannot be examined in windows"),
    ],
)
def test_what_cannot_be_tiled_is_refused(make, error, found):
    with pytest.raises(error, match=found):
        make()(Segmenter(2), images(2), RegionScore(1))


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_image_that_ends_between_two_cells_is_continued_and_that_is_told(ndim):
    x = images(ndim, (39, 31, 35))
    added = [0, 1] * ndim
    longer = nn.functional.pad(x, added, mode="replicate")
    model, inner = Segmenter(ndim).balanced(x), LayerCAM(layer="act", relu=False)
    region = torch.rand(x.shape[2:], generator=torch.Generator().manual_seed(2)) > 0.5
    tiled = Tiled(inner, window=26, margin=6)(model, x, RegionScore(1, region))
    whole = inner(model, longer, RegionScore(1, nn.functional.pad(region, added)))
    torch.testing.assert_close(tiled.scores, whole.scores, rtol=1e-4, atol=1e-4)
    assert relative(tiled.maps, whole.maps) <= 1e-5
    assert any("continued by" in notice for notice in tiled.notices)


def test_windows_between_cells_are_never_joined():
    with pytest.raises(GeometryError, match=r"multiple of 2 voxels.*DivisiblePad with k=2"):
        Axis.covering(40, 25, 10, 0, "constant").offsets(2.0)


def test_an_output_of_several_parts_is_refused():
    class Pair(Segmenter):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(ModelError, match="with `output`"):
        tiled()(Pair(2), images(2), RegionScore(1))


def test_description_travels():
    method = tiled(margin=6)
    assert hash(method) == hash(replace(method))
    assert method == replace(method)


def test_an_output_map_that_cannot_be_followed_is_refused():
    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            found = self.out(self.conv(x).relu())
            return found.flatten(2)[..., torch.arange(found[0, 0].numel()).flip(0)].view_as(found)

    with pytest.raises(ModelError, match="cells of the output"):
        Tiled(GradCAM(layer="conv"), 8)(Shuffled().eval(), torch.rand(1, 1, 16, 16), RegionScore(1))
