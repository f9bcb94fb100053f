"""Grids: positions, comparisons and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medxai.core.geometry import Geometry
from medxai.errors import GeometryError

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.lists(st.integers(2, 40), min_size=2, max_size=3).map(tuple)


def oblique(seed: int, shape: tuple[int, ...]) -> Geometry:
    """An oblique, flipped, permuted grid of 0.3 to 8 mm."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation[:, rng.permutation(3)] * rng.choice([-1, 1], 3) * rng.uniform(0.3, 8, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return Geometry(affine, shape)


@given(SEEDS, SHAPES)
def test_world_and_index_undo_each_other(seed, shape):
    grid = oblique(seed, shape)
    points = np.random.default_rng(0).uniform(-5, 50, (20, 3))
    np.testing.assert_allclose(grid.index(grid.world(points)), points, atol=1e-9)


@given(SEEDS, SHAPES)
def test_lps_and_ras_are_the_same_place(seed, shape):
    grid = oblique(seed, shape)
    again = Geometry.from_lps(grid.lps, grid.shape)
    assert again == grid
    assert grid.same(again)
    assert np.array_equal(grid.lps[:2], -grid.affine[:2])
    assert np.array_equal(grid.lps[2:], grid.affine[2:])


@given(SEEDS, SHAPES)
def test_coarse_cells_sit_where_they_look(seed, shape):
    grid = oblique(seed, shape)
    cells = grid.coarse([1.5] * grid.ndim, [4.0] * grid.ndim, [3] * grid.ndim)
    cell = [2] * grid.ndim + [0] * (3 - grid.ndim)
    voxel = [9.5] * grid.ndim + [0] * (3 - grid.ndim)
    np.testing.assert_allclose(cells.world(np.array(cell, float)), grid.world(np.array(voxel, float)), atol=1e-9)


def test_spacing_orientation_and_size():
    grid = Geometry(np.diag([-0.5, 0.7, 3.0, 1.0]), (4, 5, 6))
    assert grid.spacing == (0.5, 0.7, 3.0)
    assert grid.axcodes == "LAS"
    assert grid.voxel_size_mm == pytest.approx(1.05)
    assert "4 x 5 x 6 at 0.5 x 0.7 x 3 mm, LAS" in repr(grid)


def test_distance_is_the_farthest_corner():
    grid = Geometry(np.eye(4), (11, 11, 11))
    turned = np.eye(4)
    turned[0, 0] = 1.01
    assert grid.distance(Geometry(turned, (11, 11, 11))) == pytest.approx(0.1)
    assert grid.distance(Geometry(np.eye(4), (11, 11, 12))) == float("inf")
    assert not grid.same(Geometry(turned, (11, 11, 11)))


def test_a_flat_grid_is_one_slice_deep():
    assert Geometry(np.eye(4), (4, 5)).distance(Geometry(np.eye(4), (4, 5, 1))) == 0


def test_unknown_pixel_size_refuses_millimetres():
    grid = Geometry(np.eye(4), (4, 5), "unknown")
    assert grid.spacing == (1.0, 1.0)
    with pytest.raises(GeometryError, match="pixel size is unknown"):
        _ = grid.spacing_mm
    with pytest.raises(GeometryError, match="pixel size is unknown"):
        _ = grid.voxel_size_mm
    assert not grid.same(Geometry(np.eye(4), (4, 5)))


@pytest.mark.parametrize(
    "affine",
    [np.eye(3), np.diag([1.0, 1, 0, 1]), np.full((4, 4), np.nan), np.diag([1.0, 1, 1, 2]), np.ones((4, 4))],
    ids=["3x3", "flat", "nan", "scaled", "singular"],
)
def test_an_affine_that_maps_nothing_is_refused(affine):
    with pytest.raises(GeometryError, match="Expected"):
        Geometry(affine, (2, 2, 2))


@pytest.mark.parametrize("shape", [(3,), (3, 0, 3), (2, 2, 2, 2)])
def test_a_grid_has_two_or_three_axes(shape):
    with pytest.raises(GeometryError, match="two or three axes"):
        Geometry(np.eye(4), shape)


def test_the_affine_cannot_be_changed_from_outside():
    mine = np.eye(4)
    grid = Geometry(mine, (2, 2))
    mine[0, 0] = 9
    assert grid.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 9
