"""Planes hang as radiologists read them, whatever the array's own axes are."""

from itertools import permutations, product

import numpy as np
import pytest

from medxai.core.geometry import Geometry
from medxai.render.slices import planes_through, sparsest_axis, strip, view
from tests.render.scenes import grid, picture_grid

RIGHT_AND_DOWN = {"axial": ("L", "P"), "coronal": ("L", "I"), "sagittal": ("P", "I")}
TOWARDS = {"L": (0, -1), "P": (1, -1), "I": (2, -1)}
GRIDS = [
    grid(order, signs, tilt=tilt)
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
    for tilt in ((0.0, 0.0, 0.0), (12.0, -9.0, 15.0))
]


def _positions(geometry: Geometry) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape3], indexing="ij"), -1)
    return geometry.world(index.astype(np.float64))


@pytest.mark.parametrize("geometry", GRIDS, ids=repr)
def test_a_step_right_or_down_goes_where_the_letters_say(geometry: Geometry) -> None:
    where = _positions(geometry)
    names = []
    for plane in planes_through(geometry, (5, 6, 4)):
        right, down = RIGHT_AND_DOWN[plane.name]
        x, y, z = (plane.cut(where[..., w]) for w in range(3))
        shown = np.stack([x, y, z], -1)
        for letter, step in ((right, shown[0, 1] - shown[0, 0]), (down, shown[1, 0] - shown[0, 0])):
            axis, sign = TOWARDS[letter]
            assert sign * step[axis] > 0.9 * np.linalg.norm(step)
        assert plane.letters == (
            {"L": "R", "P": "A"}[right],
            right,
            {"P": "A", "I": "S"}[down],
            down,
        )
        steps = [np.linalg.norm(shown[0, 1] - shown[0, 0]), np.linalg.norm(shown[1, 0] - shown[0, 0])]
        rows, columns = shown.shape[:2]
        assert plane.size == pytest.approx((steps[0] * columns, steps[1] * rows))
        names.append(plane.name)
    assert names == ["axial", "coronal", "sagittal"]


@pytest.mark.parametrize("geometry", GRIDS[::5], ids=repr)
def test_a_voxel_is_found_at_its_place(geometry: Geometry) -> None:
    index = (3, 12, 7)
    values = np.zeros(geometry.shape3)
    values[index] = 1
    for plane in planes_through(geometry, index):
        shown = plane.cut(values)
        row, column = np.unravel_index(shown.argmax(), shown.shape)
        across, down = plane.place(index, geometry.shape3)
        assert shown.max() == 1
        assert (across, down) == pytest.approx(((column + 0.5) / shown.shape[1], (row + 0.5) / shown.shape[0]))


def test_a_far_turned_grid_says_so_in_two_letters() -> None:
    turned = view(grid(tilt=(0.0, 0.0, 35.0), signs=(-1, -1, 1)), 2, 4)
    assert turned.letters == ("RA", "LP", "AL", "PR")
    assert turned.name == "axial"


@pytest.mark.parametrize("angle", [44.9, 45.0, 45.1])
def test_every_patient_axis_is_taken_once_at_45_degrees(angle: float) -> None:
    planes = planes_through(grid(tilt=(angle, angle, angle)), (1, 1, 1))
    assert sorted(plane.name for plane in planes) == ["axial", "coronal", "sagittal"]
    assert all(len({*plane.letters}) == 4 for plane in planes)


@pytest.mark.parametrize("spacing", [None, 0.2])
def test_a_film_without_patient_hangs_as_stored_and_without_letters(spacing: float | None) -> None:
    geometry = picture_grid((6, 4), spacing)
    (plane,) = planes_through(geometry, (0, 0, 0))
    stored = np.arange(24).reshape(geometry.shape3)
    assert np.array_equal(plane.cut(stored), stored[..., 0])
    assert plane.letters == ("", "", "", "")
    assert plane.name == ""


def test_a_film_with_a_place_has_letters() -> None:
    coronal = np.eye(4)
    coronal[:3, :3] = [[0, -1, 0], [0, 0, 1], [-1, 0, 0]]
    coronal[:3, 3] = (80, -20, 140)
    (plane,) = planes_through(Geometry(coronal, (6, 4)), (0, 0, 0))
    assert plane.letters == ("R", "L", "S", "I")


def test_the_strip_spans_map_and_mask_along_the_sparsest_axis() -> None:
    geometry = grid(shape=(24, 20, 30))
    assert sparsest_axis(geometry) == 2
    planes = strip(geometry, [(4, 9), (7, 21)], 2)
    assert [plane.index for plane in planes] == [21, 18, 15, 12, 10, 7, 4]
    downward = strip(grid(signs=(1, 1, -1), shape=(24, 20, 30)), [(4, 6)], 2)
    assert [plane.index for plane in downward] == [4, 5, 6]


def test_an_isotropic_volume_is_sliced_from_head_to_feet() -> None:
    assert sparsest_axis(grid(order=(2, 0, 1), spacing=(1.0, 1.0, 1.0))) == 0
