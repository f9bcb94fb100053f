"""Permitted repairs: what is filled in or interpolated is where it says, and nothing else is touched."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread

from medxai.errors import InputError
from medxai.io.codes import codes
from medxai.io.dicom import read_dicom
from medxai.io.options import ReadOptions
from tests.io.dicom.make import GRID, beside, moved, removed, series
from tests.io.phantoms import LPS_RAS, write_series

UNEVEN = [0.0, 2.5, 5.0, 8.2, 11.9, 14.0]
PERMITTED = ReadOptions(resample_irregular=True)


def linear(folder: Path, shear: float) -> None:
    """Slices whose voxels hold 1000 times their height, unevenly spaced, moved along the rows by `shear` per mm."""
    heights = np.array(UNEVEN)
    voxels = np.broadcast_to(np.rint(1000 * heights), (7, 5, 6)).astype(np.int16)
    for dataset, height in zip(write_series(folder, voxels, GRID), heights, strict=True):
        x, y, z = LPS_RAS[:3, :3] @ (GRID[:3, 3] + [shear * height, 0, height])
        dataset.ImagePositionPatient = [f"{v:.9g}" for v in (x, y, z)]
        dataset.save_as(dataset.filename, enforce_file_format=True)


@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_a_field_linear_in_height_stays_linear(tmp_path: Path, shear: float) -> None:
    linear(tmp_path / "s", shear)
    volume = read_dicom(tmp_path / "s", PERMITTED)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.geometry.shape], indexing="ij"), -1).astype(float)
    world = volume.geometry.world(index)
    assert np.abs(volume.data[0].numpy() - 1000 * (world[..., 2] - GRID[2, 3])).max() < 0.01
    straight = GRID[0, 3] + shear * (world[..., 2] - GRID[2, 3]) + GRID[0, 0] * index[..., 0]
    assert np.abs(world[..., 0] - straight).max() < 1e-4
    assert world[..., 2].min() == pytest.approx(GRID[2, 3])
    assert world[..., 2].max() == pytest.approx(GRID[2, 3] + 14)
    assert any("0.00, 2.50, 5.00, 8.20, 11.90, 14.00 mm" in notice for notice in volume.notices)
    assert "D21" in codes(volume.notices)


def test_slices_off_a_straight_line_are_refused_even_so(tmp_path: Path) -> None:
    path = series(moved(UNEVEN))(tmp_path)
    first = sorted(path.iterdir())[0]
    dataset = dcmread(first)
    dataset.ImagePositionPatient[0] += 1
    dataset.save_as(first)
    with pytest.raises(InputError, match=r"\[D21\].*off a straight line"):
        read_dicom(path, PERMITTED)


def test_a_gap_is_nan_and_nothing_else_is(tmp_path: Path) -> None:
    whole = read_dicom(series(shape=(7, 5, 9))(tmp_path))
    (tmp_path / "b").mkdir()
    volume = read_dicom(series(removed(3, 4, 6), shape=(7, 5, 9))(tmp_path / "b"), ReadOptions(allow_gaps=True))
    assert volume.geometry.same(whole.geometry)
    missing = torch.tensor([3, 4, 6])
    assert bool(volume.data[..., missing].isnan().all())
    kept = torch.tensor([0, 1, 2, 5, 7, 8])
    assert torch.equal(volume.data[..., kept], whole.data[..., kept])
    assert "3 missing slices filled with NaN: number 3, 4, 6" in volume.notices[0]


def test_gaps_are_not_interpolated_over(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\[D20\].*--allow-gaps"):
        read_dicom(series(removed(2))(tmp_path), PERMITTED)


def test_a_real_uneven_head_is_interpolated_where_asked(data_dir: Callable[[str], Path]) -> None:
    folder = data_dir("dicom/ge_head_gantry_tilt")
    volume = read_dicom(folder, PERMITTED)
    assert {"D21", "D27"} <= set(codes(volume.notices))
    headers = [dcmread(path) for path in folder.glob("*.dcm")]
    row, column = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
    lowest = min(headers, key=lambda h: float(np.cross(row, column) @ np.array(h.ImagePositionPatient, float)))
    assert volume.geometry.lps[:3, 3] == pytest.approx(np.array(lowest.ImagePositionPatient, float))
    stored = lowest.pixel_array * float(lowest.RescaleSlope) + float(lowest.RescaleIntercept)
    assert np.array_equal(volume.data[0, :, :, 0].numpy().T, stored)
    for header in headers:
        k = volume.geometry.index(np.array(header.ImagePositionPatient, float)[None] @ LPS_RAS[:3, :3])[0]
        assert np.abs(k[:2]).max() < 0.1


def test_a_hidden_copy_of_a_slice_is_no_duplicate(tmp_path: Path) -> None:
    path = series()(tmp_path)
    content = sorted(path.iterdir())[0].read_bytes()
    volume = read_dicom(beside(lambda folder: path, "._copy.dcm", content)(tmp_path))
    assert codes(volume.notices) == ("D51",)
