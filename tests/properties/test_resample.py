"""A field that is linear in millimetres reads the same on every grid: no reference library is needed."""

import numpy as np
import pytest
import torch

from medxai.core.geometry import Geometry
from medxai.core.resample import inside, read_on
from medxai.core.saliency import Provenance, Saliency
from medxai.errors import GeometryError, InputError

NOTHING = Provenance("none", {}, "", "", (), "", "", 0, "cpu", 0.0, {})


def positions(grid: Geometry) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(s) for s in grid.shape3], indexing="ij"), -1).astype(float)
    return grid.world(index).reshape(*grid.shape, 3)


def field(grid: Geometry) -> torch.Tensor:
    return torch.tensor(positions(grid) @ np.array([0.3, -0.2, 0.1]) + 5, dtype=torch.float32)


def oblique(seed: int, shape: tuple[int, ...]) -> Geometry:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.3, 8, 3) * rng.choice([-1, 1], 3)
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return Geometry(affine, shape)


def enclosing(seen: Geometry, angle: float) -> Geometry:
    """A fine grid about all of `seen`, turned in the plane of its first axes."""
    turn, sides = np.deg2rad(angle), np.array([150, 130, 60])
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] *= (1.3, 1.6, 1.1)
    middle = np.where(np.arange(3) < seen.ndim, (sides - 1) / 2, 0)
    affine[:3, 3] = seen.world((np.array(seen.shape3) - 1) / 2) - affine[:3, :3] @ middle
    return Geometry(affine, tuple(sides[: seen.ndim].tolist()))


@pytest.mark.parametrize("seed", range(8))
def test_linear_field_survives_any_pair_of_grids(seed):
    source = oblique(seed, (14, 15, 16))
    small = np.array(oblique(seed + 100, (4, 5, 6)).affine)
    small[:3, :3] *= 0.05
    small[:3, 3] = source.world(np.array([7, 7.5, 8.0]))
    target = Geometry(small, (4, 5, 6))
    torch.testing.assert_close(read_on(field(source), source, target), field(target), atol=1e-3, rtol=1e-5)


def test_linear_field_survives_in_two_dimensions():
    source = Geometry(np.diag([0.5, -0.7, 1, 1]), (20, 30))
    target = source.coarse((3.5, 4.0), (4.0, 4.0), (4, 6))
    torch.testing.assert_close(read_on(field(source), source, target), field(target), atol=1e-4, rtol=1e-5)


def test_beyond_the_outermost_cells_the_nearest_cell_answers():
    image = Geometry(np.eye(4), (16, 16))
    cells = image.coarse((4.0, 4.0), (8.0, 8.0), (2, 2))
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    read = read_on(values, cells, image)
    assert read[0, 0] == 1
    assert read[15, 15] == 4
    assert read[8, 4] == 2


def test_inside_ends_at_the_faces_of_the_outermost_voxels():
    field_of_view = Geometry(np.eye(4), (4, 4, 4))
    target = Geometry(np.diag([0.25, 1, 1, 1]), (40, 4, 4))
    first = inside(field_of_view, target)[:, 0, 0]
    x = torch.arange(40) * 0.25
    assert torch.equal(first, (x >= -0.5) & (x < 3.5))


def test_saliency_is_nan_where_the_model_never_looked():
    seen = Geometry(np.eye(4), (8, 8, 8))
    cells = seen.coarse((0.0,) * 3, (4.0,) * 3, (2,) * 3)
    saliency = Saliency(torch.ones(2, 2, 2), cells, seen, NOTHING)
    shift = np.eye(4)
    shift[0, 3] = -4
    read = saliency.on(Geometry(shift, (16, 8, 8)))
    assert read[:4].isnan().all()
    assert (read[4:12] == 1).all()
    assert read[12:].isnan().all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_map_with_what_is_no_number_is_refused(wrong):
    """Read at its own voxels it would be NaN around an infinite one, as if the model had not looked there."""
    values, grid = torch.ones(4, 5), Geometry(np.eye(4), (4, 5))
    values[1, 2] = wrong
    assert not read_on(values, grid, grid).isfinite()[:3, :3].all()
    with pytest.raises(InputError, match="1 of 20 NaN or infinite"):
        Saliency(values, grid, grid, NOTHING)


def test_a_flat_map_reads_on_a_one_slice_volume_and_back():
    flat, solid = Geometry(np.eye(4), (6, 7)), Geometry(np.eye(4), (6, 7, 1))
    values = torch.rand(6, 7)
    assert torch.equal(read_on(values, flat, solid)[..., 0], values)
    assert torch.equal(read_on(values[..., None], solid, flat), values)


def test_pixels_of_unknown_size_are_not_read_in_millimetres():
    unknown = Geometry(np.eye(4), (4, 4), "unknown")
    saliency = Saliency(torch.ones(4, 4), unknown, unknown, NOTHING)
    with pytest.raises(GeometryError, match="pixel size"):
        saliency.on(Geometry(np.eye(4), (4, 4)))


@pytest.mark.parametrize("ndim", [2, 3])
def test_amounts_keep_their_sum_on_every_grid(ndim):
    """Bits per cell are read as a density: its integral over what the model saw is the total, at any resolution."""
    torch.manual_seed(0)
    turned = np.diag([*(2.0, 3.0, 1.5)[:ndim], *[1.0] * (4 - ndim)])
    seen = Geometry(turned, (40, 48, 32)[:ndim])
    cells = seen.coarse((3.5,) * ndim, (8.0,) * ndim, (5, 6, 4)[:ndim])
    saliency = Saliency(torch.rand(cells.shape), cells, seen, NOTHING, amount="bits")
    total = float(saliency.data.sum())
    for step in (0.5, 1.0, 2.0, 4.0):
        shape = [int(n / step) for n in seen.shape]
        grid = seen.coarse([(step - 1) / 2] * ndim, [step] * ndim, shape)
        integral = float(saliency.on(grid).nansum()) * grid.voxel_size
        assert integral == pytest.approx(total, rel=1e-5 if step == 1 else 5e-3)
    grid = enclosing(seen, angle=20)
    assert float(saliency.on(grid).nansum()) * grid.voxel_size == pytest.approx(total, rel=1e-2)


@pytest.mark.parametrize("step", [1.3, 2, 3, 4, 5, 7.5])
@pytest.mark.parametrize("ndim", [2, 3])
def test_one_cell_of_bits_keeps_its_sum_on_coarser_grids(ndim, step):
    """A point in the middle of each coarse voxel reads a lone cell many times or never: 4.0 times at step 4 in 2D."""
    seen = Geometry(np.diag([*(2.0, 3.0, 1.5)[:ndim], *[1.0] * (4 - ndim)]), (30, 30, 30)[:ndim])
    for place in ((13, 14, 15), (12, 12, 12), (16, 13, 11)):
        bits = torch.zeros(seen.shape)
        bits[place[:ndim]] = 5.0
        grid = seen.coarse([(step - 1) / 2] * ndim, [step] * ndim, [int(30 / step)] * ndim)
        found = Saliency(bits, seen, seen, NOTHING, amount="bits").on(grid)
        assert float(found.nansum()) * grid.voxel_size == pytest.approx(
            5.0, rel=1e-5 if step == int(step) else 0.042 * ndim
        )
    turned = enclosing(seen.coarse([1.0] * ndim, [3.0] * ndim, [10] * ndim), angle=20)
    found = Saliency(bits, seen, seen, NOTHING, amount="bits").on(turned)
    assert float(found.nansum()) * turned.voxel_size == pytest.approx(5.0, rel=0.042 * ndim)
