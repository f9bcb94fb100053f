"""What must hold of the metrics whatever the map: chance in closed form, depth, order, pickles, the power of ties."""

import pickle
from math import isnan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medxai import catalog
from medxai.core.geometry import Geometry
from medxai.errors import GeometryError, MaskError
from medxai.metrics.places import surface
from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, Undefined, reason

MASKED = [row for row in catalog.metrics().values() if row.needs == "mask"]
OVERLAPS = [row for row in MASKED if not row.unit]


def reading(seed, shape, levels=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape).astype(np.float32)
    values = np.round(values * levels) / levels if levels else values
    mask = rng.random(shape) < 0.3
    mask.flat[0], values.flat[1] = True, 1.0
    grid = Geometry(np.diag([1.0, 2.0, 3.0, 1.0]), shape)
    return Reading(torch.from_numpy(values), torch.from_numpy(mask), grid)


@pytest.mark.parametrize("metric", OVERLAPS, ids=lambda m: m.name)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([0, 2]))
def test_a_slice_is_a_volume_one_voxel_deep(metric, seed, levels):
    flat = reading(seed, (9, 8), levels)
    deep = Reading(flat.values[..., None], flat.mask[..., None], Geometry(flat.grid.affine, (9, 8, 1)))
    assert metric.fn(deep) == pytest.approx(metric.fn(flat), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("metric", [m for m in OVERLAPS if m.uniform is not None], ids=lambda m: m.name)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_voxels_is_nothing_to_what_is_counted(metric, seed):
    """No luck of a sort: any permutation of the voxels, taken by map and mask alike, has the same score."""
    one = line(seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(60))
    other = Reading(one.values[order], one.mask[order])
    assert metric.fn(other) == pytest.approx(metric.fn(one), abs=1e-9, nan_ok=True)


def line(seed):
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.integers(-1, 3, 60).astype(np.float32))
    values[0] = 2.0
    mask = torch.from_numpy(rng.random(60) < 0.3)
    mask[1] = True
    return Reading(values, mask)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_another_mask_on_the_same_map_needs_no_new_sort(seed):
    one, two = reading(seed, (7, 6), 2), reading(seed + 1, (7, 6))
    kept, fresh = one.against(two.mask), Reading(one.values, two.mask, one.geometry)
    assert kept.ranking.values is one.ranking.values
    for row in MASKED:
        assert row.fn(kept) == pytest.approx(row.fn(fresh), abs=0, nan_ok=True)


def test_undefined_is_nan_and_keeps_its_reason():
    value = Undefined("empty mask")
    assert isnan(value)
    assert isnan(value + 1)
    assert reason(value) == reason(pickle.loads(pickle.dumps(value))) == "empty mask"  # noqa: S301 - our own
    assert reason(float("nan")) == ""


def test_a_reading_is_of_one_grid():
    with pytest.raises((GeometryError, TypeError)):
        Reading(torch.rand(3, 3), torch.ones(3, 3, dtype=torch.bool), Geometry(np.eye(4), (4, 3)))
    with pytest.raises(MaskError):
        Reading(torch.rand(3, 3), torch.full((3, 3), 2.0))
    unchecked = Reading(torch.rand(3, 3), torch.ones(3, 3))
    object.__setattr__(unchecked, "mask", torch.arange(9).reshape(3, 3) % 3)
    with pytest.raises(MaskError, match="from 0 to 2"):
        unchecked.__post_init__()
    lost = Reading(torch.rand(3, 3), torch.ones(3, 3, dtype=torch.bool))
    for row in MASKED:
        if row.unit:
            with pytest.raises(GeometryError):
                row.fn(lost)
    assert Reading(torch.tensor([1.0, torch.inf]), torch.tensor([True, False])).undefined == "infinite saliency"


def test_every_row_says_what_it_is():
    for row in MASKED:
        assert isinstance(row, MetricSpec)
        assert row.summary
        assert row.span[0] < row.span[1]
        assert row.best is None or row.best == (row.span[0] if row.better == "lower" else row.span[1])


@pytest.mark.parametrize("shape", [(12, 11), (9, 8, 7)])
def test_the_surface_is_what_has_a_face_outside(shape):
    rng = np.random.default_rng(0)
    voxels = rng.random(shape) < 0.8
    found = {tuple(place) for place in surface(voxels)}
    for place in np.argwhere(voxels):
        faces = [place + step * np.eye(len(shape), dtype=int)[axis] for axis in range(len(shape)) for step in (-1, 1)]
        inside = [bool((f >= 0).all() and (f < shape).all() and voxels[tuple(f)]) for f in faces]
        assert (tuple(place) in found) == (not all(inside))
