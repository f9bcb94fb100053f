"""Opti-CAM and Poly-CAM: closed forms and slow derivations from the papers."""

import pytest
import torch
from torch import nn

from medxai.attribution.masking_cams import ScoreCAM
from medxai.attribution.opti_cam import OptiCAM
from medxai.attribution.poly_cam import PolyCAM
from medxai.core.layer import Footprint
from medxai.core.target import ClassScore
from medxai.model.place import on_cells, on_image
from tests.networks import CONV, LAYER, images, net, rising
from tests.reference.helpers import relative

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
TARGET = ClassScore(1)


def two_objects(ndim):
    """y_c = the mean of bright channel c: channel 0 shows one corner of the image, channel 1 the other."""
    shape = (8, 8, 8)[:ndim]
    x = torch.zeros(1, 2, *shape)
    x[(0, 0, *[slice(0, 3)] * ndim)] = 1
    x[(0, 1, *[slice(5, 8)] * ndim)] = 1
    model = nn.Sequential(CONV[ndim](2, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 8**ndim, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2).view(2, 2, *[1] * ndim))
        model[0].bias.zero_()
        model[3].weight.copy_(torch.eye(2).repeat_interleave(8**ndim, 1))
    return model, x


@DIMENSIONS
def test_opti_cam_gives_all_weight_to_the_channel_that_keeps_the_score(ndim):
    """The mask is N01 of a mixture: the score is kept whole where w_c reaches the larger share, gain = y - y_0 = y."""
    model, x = two_objects(ndim)
    found = OptiCAM(layer="1").attribute(model, x, [ClassScore(0), ClassScore(1)])
    for c, one in enumerate(found):
        inside, outside = one.maps[0][x[0, c] == 1], one.maps[0][x[0, 1 - c] == 1]
        assert float(one.scores) == 3**ndim
        assert float(inside.min()) >= 0.5 * 3**ndim  # gain * w_c, and w_c is at least that of the other
        assert float(inside.mean()) >= float(outside.mean())
        assert one.status[0].ok


@DIMENSIONS
def test_opti_cam_ends_above_where_it_starts_and_repeats_itself(ndim):
    model, x = rising(net(ndim, seed=4)), images(ndim)
    start = OptiCAM(layer=LAYER, steps=0)(model, x, TARGET).maps.flatten(1).sum(1)
    method = OptiCAM(layer=LAYER)
    end = method(model, x, TARGET).maps
    assert torch.equal(end, method(model, x, TARGET).maps)
    assert relative(end[1:], method(model, x[1:], TARGET).maps) <= 1e-2  # Adam enlarges rounding
    assert bool((start > 0).all())
    one, A = x[:1], model.eval()[:5](x[:1]).detach()
    y = [self_score(model, one, A, method(model, one, TARGET).maps[0]), self_score(model, one, A, A.mean(1)[0])]
    assert y[0] > y[1]


def self_score(model, x, A, mixed):
    """The score of the image seen through the map, by the slow way round."""
    mask = (mixed - mixed.min()) / (mixed.max() - mixed.min())
    place = Footprint((0.0,) * mixed.ndim, (2.0,) * mixed.ndim, tuple(mixed.shape))
    return float(model(x * on_image(mask[None, None], place, tuple(x.shape[2:]))).detach()[0, 1])


def test_opti_cam_without_any_evidence_says_so():
    model, x = two_objects(2)
    with torch.no_grad():
        model[3].weight.neg_()
    found = OptiCAM(layer="1")(model, x, TARGET)
    assert found.status[0].reason == "no positive evidence"


@DIMENSIONS
def test_cells_are_the_mean_of_the_voxels_about_them(ndim):
    """The transpose of laying cells on voxels, with weights that sum to 1: a constant stays what it is."""
    shape, place = (9, 8, 7)[:ndim], Footprint((0.5, 1.0, 0.0)[:ndim], (2.0, 3.0, 2.5)[:ndim], (4, 3, 3)[:ndim])
    torch.testing.assert_close(on_cells(torch.full((1, 1, *shape), 3.0), place), torch.full((1, 1, *place.shape), 3.0))
    image, cells = torch.rand(1, 1, *shape), torch.rand(1, 1, *place.shape)
    mass = on_cells(torch.ones(1, 1, *shape), place)
    assert mass.shape == cells.shape
    spread = on_image(torch.eye(cells.numel()).view(cells.numel(), 1, *place.shape), place, shape)
    expected = (spread * image).flatten(1).sum(1) / spread.flatten(1).sum(1)
    torch.testing.assert_close(on_cells(image, place).flatten(), expected)


def masks(A, footprint, shape):
    cells = A.flatten(2)
    low, high = cells.amin(2, keepdim=True), cells.amax(2, keepdim=True)
    return on_image(((cells - low) / (high - low)).view_as(A), footprint, shape)


@DIMENSIONS
@pytest.mark.parametrize("polarity", ["+", "-", "+-"])
def test_poly_cam_equals_its_slow_derivation(ndim, polarity):
    model, x = rising(net(ndim, seed=1)).eval(), images(ndim, batch=1)
    shape, maps = tuple(x.shape[2:]), []
    halved = Footprint((0.0,) * ndim, (2.0,) * ndim, tuple((n + 1) // 2 for n in shape))
    places = {"2": Footprint.of_image(shape), "4": halved}

    def score(image):
        return float(model(image).detach()[0, 1])

    y, nothing = score(x), score(torch.zeros_like(x))
    for layer, place in places.items():
        A = model[: int(layer) + 1](x).detach()
        total = torch.zeros_like(A[0, 0])
        for k in range(A.shape[1]):
            if A[0, k].max() == A[0, k].min():
                continue
            mask = masks(A[:, k : k + 1], place, shape)
            gain = 0.0
            if "+" in polarity:
                gain += score(x * mask) - nothing
            if "-" in polarity:
                gain += y - score(x * (1 - mask))
            total += max(gain, 0.0) * A[0, k]
        maps.append(on_image(total[None, None], place, shape))
    mean = on_image(on_cells(maps[0], places["4"]), places["4"], shape)
    expected = maps[0] / mean * maps[1]
    for layers in (("2", "4"), ("4", "2")):
        found = PolyCAM(layers=layers, polarity=polarity)(model, x, TARGET)
        assert relative(found.maps, expected[:, 0]) <= 1e-4


def test_poly_cam_of_one_layer_is_score_cam_on_the_image():
    model, x = rising(net(3, seed=1)), images(3)
    score = ScoreCAM(layer=LAYER)(model, x, TARGET)
    found = PolyCAM(layers=(LAYER,))(model, x, TARGET)
    placed = on_image(score.maps[:, None], score.footprint, tuple(x.shape[2:]))[:, 0]
    torch.testing.assert_close(found.maps, placed)
    assert found.layer == ""


def test_of_layers_on_one_grid_poly_cam_takes_the_last_for_the_deepest():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)])
    model, x = rising(model).eval(), images(2)
    model[6].weight.data.abs_()
    deep = PolyCAM(layers=("3",))(model, x, TARGET).maps
    both = PolyCAM(layers=("1", "3"))(model, x, TARGET).maps
    shallow_seen = PolyCAM(layers=("1",))(model, x, TARGET).maps > 0
    torch.testing.assert_close(both, deep * shallow_seen)
