"""DICOM series: sorted by position, every voxel where its address says, equal to what strict readers say."""

from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
import torch
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medxai.io.dicom import read_dicom
from tests.io.phantoms import LPS_RAS, address, farthest_mm, random_affine, right_handed, write_series

GRID = np.array([[-0.7, 0, 0, -20], [0, -0.9, 0, 30], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("seed", range(12))
def test_every_voxel_lies_where_its_address_says(tmp_path: Path, seed: int) -> None:
    affine = random_affine(seed)
    write_series(tmp_path / "s", address(), affine, seed)
    volume = read_dicom(tmp_path / "s")
    assert farthest_mm(volume, affine) < 1e-3
    assert volume.modality == "CT"
    assert volume.data.dtype == torch.float32


@pytest.mark.parametrize("seed", range(6))
def test_a_tilted_gantry_stays_exact_and_is_told(tmp_path: Path, seed: int) -> None:
    affine = random_affine(seed, shear=0.4)
    write_series(tmp_path / "s", address(), affine, seed)
    volume = read_dicom(tmp_path / "s")
    assert farthest_mm(volume, affine) < 1e-3
    assert any("tilted gantry" in notice for notice in volume.notices)


@pytest.mark.parametrize("seed", range(6))
def test_the_grid_is_that_of_highdicom(tmp_path: Path, seed: int) -> None:
    write_series(tmp_path / "s", address(), right_handed(random_affine(seed)), seed)
    ours = read_dicom(tmp_path / "s")
    files = [dcmread(path) for path in sorted((tmp_path / "s").iterdir())]
    theirs = highdicom.get_volume_from_series(files)
    frames, rows, columns = theirs.spatial_shape
    assert ours.geometry.shape == (columns, rows, frames)
    index = np.stack(np.meshgrid(range(columns), range(rows), range(frames), indexing="ij"), -1).astype(np.float64)
    world = index[..., ::-1] @ theirs.affine[:3, :3].T + theirs.affine[:3, 3]
    said = (index @ (LPS_RAS @ ours.geometry.affine)[:3, :3].T) + ours.geometry.lps[:3, 3]
    flipped = theirs.array[::-1] if np.linalg.norm(world - said, axis=-1).max() > 1e-3 else theirs.array
    if flipped is not theirs.array:
        world = world[:, :, ::-1]
    assert np.linalg.norm(world - said, axis=-1).max() < 1e-3
    assert np.array_equal(ours.data[0].numpy(), flipped.transpose(2, 1, 0))


def test_voxels_and_grid_are_those_of_simpleitk_where_it_is_right(tmp_path: Path) -> None:
    write_series(tmp_path / "s", address(), GRID)
    ours = read_dicom(tmp_path / "s")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    theirs = reader.Execute()
    assert np.array_equal(ours.data[0].numpy(), SimpleITK.GetArrayFromImage(theirs).T)
    assert ours.geometry.lps[:3, 3] == pytest.approx(np.array(theirs.GetOrigin()), abs=1e-6)
    assert ours.geometry.spacing == pytest.approx(theirs.GetSpacing())


def test_each_slice_is_rescaled_by_its_own_slope(tmp_path: Path) -> None:
    for k, dataset in enumerate(write_series(tmp_path / "s", address(), GRID)):
        dataset.RescaleSlope, dataset.RescaleIntercept = k + 0.5, -10 * k
        dataset.save_as(dataset.filename)
    expected = np.stack([address()[:, :, k] * (k + 0.5) - 10 * k for k in range(address().shape[2])], -1)
    assert np.array_equal(read_dicom(tmp_path / "s").data[0].numpy(), expected.astype(np.float32))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_lossless_compression_changes_nothing(tmp_path: Path, syntax: str) -> None:
    voxels = np.random.default_rng(0).integers(-1024, 3000, (48, 40, 3), np.int16)
    written = write_series(tmp_path / "s", voxels, GRID)
    plain = read_dicom(tmp_path / "s")
    for dataset in written:
        dataset.compress(syntax)
        dataset.save_as(dataset.filename)
    packed = read_dicom(tmp_path / "s")
    assert torch.equal(packed.data, plain.data)
    assert packed.geometry == plain.geometry
    assert np.array_equal(plain.data[0].numpy(), voxels)


def test_one_slice_is_one_thickness_deep(tmp_path: Path) -> None:
    affine = right_handed(random_affine(4))
    [dataset] = write_series(tmp_path / "s", address((7, 5, 1)), affine)
    volume = read_dicom(Path(dataset.filename))
    assert volume.geometry.shape == (7, 5, 1)
    assert np.abs(volume.geometry.affine - affine).max() < 1e-6


def test_monochrome1_slices_keep_their_values(tmp_path: Path) -> None:
    for dataset in write_series(tmp_path / "s", address(), GRID):
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.save_as(dataset.filename)
    volume = read_dicom(tmp_path / "s")
    assert farthest_mm(volume, GRID) < 1e-3
    assert any("display only" in notice for notice in volume.notices)


def test_small_jitter_is_told_and_files_without_image_are_counted(tmp_path: Path) -> None:
    written = write_series(tmp_path / "s", address(), GRID)
    x, y, z = written[1].ImagePositionPatient
    written[1].ImagePositionPatient = [x, y, float(z) + 0.01]
    written[1].save_as(written[1].filename)
    (tmp_path / "s" / "notes.txt").write_text("not an image")
    (tmp_path / "s" / ".DS_Store").write_bytes(b"\0\0")
    volume = read_dicom(tmp_path / "s")
    assert "D51: 2 files without image skipped" in volume.notices
    assert any("0.0100 mm" in notice for notice in volume.notices)


def test_no_name_of_a_patient_gets_into_the_value(tmp_path: Path) -> None:
    write_series(tmp_path / "s", address(), GRID)
    assert "CANARY" not in repr(read_dicom(tmp_path / "s"))
