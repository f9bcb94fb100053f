"""Perturbed images hold the declared baseline where voxels were removed and the image, bit for bit, elsewhere."""

from math import inf, log, nan

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse.linalg import spsolve

from medxai.errors import GeometryError, InputError
from medxai.metrics.imputation import Blur, Constant, HealthyPatch, Mean, Reference, default_baseline
from medxai.metrics.road import NoisyLinear, solve
from medxai.metrics.scene import Scene
from medxai.metrics.units import Supervoxels
from tests.metrics.probes import SHAPES, draw

BASELINES = {
    "constant": Constant((0.25, -1.0)),
    "mean": Mean(),
    "blur in mm": Blur(3.0),
    "blur in voxels": Blur(2.0, "voxel"),
    "default": default_baseline,
    "noisy linear": NoisyLinear(),
}

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def scene(shape, spacing=None, seed=0):
    return Scene(draw(2, *shape, seed=4), torch.ones(shape, dtype=torch.bool), spacing or (1.0,) * len(shape), seed)


def holes(shape):
    return torch.stack([draw(*shape, seed=s) < share for s, share in ((5, 0.0), (6, 0.3), (7, 0.9), (8, 1.1))])


@shapes
@pytest.mark.parametrize("name", BASELINES)
def test_only_removed_voxels_change_and_the_image_is_never_written(shape, name):
    place, removed = scene(shape), holes(shape)
    before = place.image.clone()
    filled = BASELINES[name](place)(removed)
    kept = ~removed[:, None].expand_as(filled)
    assert torch.equal(filled[kept], before.expand_as(filled)[kept])
    filled.zero_()
    assert torch.equal(place.image, before)


@shapes
@pytest.mark.parametrize("name", ["constant", "mean", "blur in mm", "default"])
def test_a_removed_voxel_holds_the_same_baseline_at_every_level(shape, name):
    fill, removed = BASELINES[name](scene(shape)), holes(shape)
    everything = fill(torch.ones(1, *shape, dtype=torch.bool))
    gone = removed[:, None].expand(-1, 2, *shape)
    assert torch.equal(fill(removed)[gone], everything.expand(len(removed), *everything.shape[1:])[gone])


@shapes
def test_the_mean_is_of_the_field_alone(shape):
    field = torch.zeros(shape, dtype=torch.bool)
    field[1:3] = True
    image = draw(1, *shape)
    filled = Mean()(Scene(image, field))(torch.ones(1, *shape, dtype=torch.bool))
    torch.testing.assert_close(filled, image[:, 1:3].mean().expand_as(filled))


def test_a_blur_in_millimetres_follows_the_spacing():
    """An impulse has the variance (sigma / step)^2 along each axis, in voxels."""
    image = torch.zeros(1, 61, 61)
    image[0, 30, 30] = 1
    place = Scene(image, torch.ones(61, 61, dtype=torch.bool), (1.0, 2.0))
    blurred = Blur(6.0)(place)(torch.ones(1, 61, 61, dtype=torch.bool))[0, 0].double()
    at = (torch.arange(61) - 30.0).double()
    assert float((blurred.sum(1) * at**2).sum()) == pytest.approx(36, rel=0.01)
    assert float((blurred.sum(0) * at**2).sum()) == pytest.approx(9, rel=0.01)


def test_millimetres_are_refused_where_they_are_unknown():
    place = Scene(torch.rand(1, 8, 8), torch.ones(8, 8, dtype=torch.bool))
    with pytest.raises(GeometryError, match="voxel size is unknown"):
        Blur(3.0)(place)


def test_a_healthy_patch_is_mirrored_over_the_grid():
    image = torch.arange(8.0)[None, :, None].expand(1, 8, 3).contiguous()
    place = Scene(image, torch.ones(8, 3, dtype=torch.bool))
    filled = HealthyPatch((2, 0), (3, 3))(place)(torch.ones(1, 8, 3, dtype=torch.bool))
    assert filled[0, 0, :, 0].tolist() == [3, 2, 2, 3, 4, 4, 3, 2]
    with pytest.raises(GeometryError, match="leaves the image"):
        HealthyPatch((6, 0), (3, 3))(place)


def test_a_reference_lies_on_the_same_grid():
    place = scene((9, 11))
    mean = draw(2, 9, 11, seed=9)
    assert torch.equal(Reference(mean)(place)(torch.ones(1, 9, 11, dtype=torch.bool))[0], mean)
    with pytest.raises(GeometryError, match="another grid"):
        Reference(mean[:, :5])(place)
    with pytest.raises(InputError, match="constant per channel"):
        Constant((1.0,))(place)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Constant(nan),
        lambda: Constant((0.0, inf)),
        lambda: Constant(()),
        lambda: HealthyPatch((0, 0), (4, 0)),
        lambda: HealthyPatch((0, -1), (4, 4)),
        lambda: HealthyPatch((0, 0), (4, 4, 4)),
        lambda: HealthyPatch((), ()),
        lambda: Supervoxels(0),
    ],
)
def test_what_removes_nothing_or_fills_with_no_number_cannot_be_made(made):
    with pytest.raises(InputError):
        made()


def by_the_paper(image, hole):
    """One equation per removed voxel, written out and solved directly in double precision."""
    ndim = hole.ndim
    weights = {(2, 1): 1 / 6, (2, 2): 1 / 12, (3, 1): 1 / 8, (3, 2): 1 / 48}
    cells = np.argwhere(hole)
    number = {tuple(cell): row for row, cell in enumerate(cells)}
    left, right = sparse.lil_matrix((len(cells), len(cells))), np.zeros((len(cells), len(image)))
    for cell, row in number.items():
        for step in np.ndindex(*[3] * ndim):
            offset = np.array(step) - 1
            weight = weights.get((ndim, int(np.abs(offset).sum())))
            other = tuple(int(v) for v in np.array(cell) + offset)
            if weight is None or min(other) < 0 or any(o >= n for o, n in zip(other, hole.shape, strict=True)):
                continue
            left[row, row] += weight
            if other in number:
                left[row, number[other]] -= weight
            else:
                right[row] += weight * image[(slice(None), *other)]
    filled = image.copy()
    filled[:, hole] = spsolve(left.tocsc(), right).reshape(len(cells), -1).T
    return filled


@shapes
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_road_solves_the_equations_of_the_paper(shape, share):
    image, hole = draw(2, *shape, seed=1) * 5 - 1, draw(*shape, seed=2) < share
    expected = torch.from_numpy(by_the_paper(image.double().numpy(), hole.numpy()))
    found = solve(image.double()[None], hole[None], 1e-9)[0]
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
    single = solve(image[None], hole[None])[0]
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-4 * 5)


def test_road_of_one_slice_is_road_of_the_plane():
    image, hole = draw(1, 1, 12, 13), draw(1, 12, 13, seed=2) < 0.5
    deep = solve(image[:, :, None], hole[:, None])
    torch.testing.assert_close(deep[:, :, 0], solve(image, hole), rtol=0, atol=1e-6)


@shapes
def test_road_continues_what_is_constant_and_never_overshoots(shape):
    """A weighted mean of neighbours obeys the maximum principle; a constant image has only one continuation."""
    removed = holes(shape)
    image = draw(1, *shape, seed=1).expand(len(removed), 1, *shape)
    filled = solve(image, removed)
    assert float(filled.min()) >= float(image.min()) - 1e-4
    assert float(filled.max()) <= float(image.max()) + 1e-4
    flat = solve(torch.full_like(image, 3.25), removed)
    torch.testing.assert_close(flat, torch.full_like(image, 3.25))


@shapes
def test_the_noise_is_of_the_stated_size_and_shared_by_all_levels(shape):
    shape = (40, *shape[1:])
    place, removed = scene(shape), torch.ones(2, *shape, dtype=torch.bool)
    removed[0, :3] = False
    removed[1, :3] = False
    noise = NoisyLinear(0.1)(place)(removed) - NoisyLinear(0.0)(place)(removed)
    assert torch.equal(noise[0], noise[1])
    assert float(noise[:, :, 3:].std()) == pytest.approx(0.1, rel=0.05)
    other = NoisyLinear(0.1)(Scene(place.image, place.field, seed=1))(removed)
    assert not torch.equal(other, NoisyLinear(0.1)(place)(removed))


def test_an_image_that_is_not_finite_is_refused():
    image = draw(1, 1, 9, 9)
    image[0, 0, 4, 4] = torch.nan
    hole = torch.zeros(1, 9, 9, dtype=torch.bool)
    hole[0, 3] = True
    with pytest.raises(InputError, match="does not converge"):
        solve(image, hole)


def test_levels_are_dense_where_little_is_removed():
    from medxai.metrics.curves import even_levels, fine_levels

    levels = fine_levels(50)
    assert len(levels) == 51
    assert levels[0] == 0
    assert levels[-1] == 1
    assert sum(level < 0.1 - 1e-9 for level in levels) == 25
    assert log(levels[2] / levels[1]) == pytest.approx(log(levels[20] / levels[19]))
    assert even_levels(4) == (0, 0.25, 0.5, 0.75, 1)
