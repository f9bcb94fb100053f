"""A tilted gantry: the overlay is sheared as the series is, or on a grid without shear; either lies on the patient."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from numpy.typing import NDArray
from pydicom import dcmread
from scipy.ndimage import map_coordinates
from typer.testing import CliRunner

import medxai
from medxai.cli.app import app
from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency
from medxai.io.codes import codes
from medxai.io.options import ReadOptions
from tests.io.phantoms import address, farthest_mm, random_affine, right_handed, write_series
from tests.truth import command

SHAPE = (16, 15, 9)
DIRECTION = np.array([1.0, 0.7, -0.4])
LPS = np.diag([-1.0, -1.0, 1.0])
Array = NDArray[np.float64]


def map_of(data: torch.Tensor, grid: Geometry) -> Saliency:
    unknown = Provenance("m", {}, "", "", (), "", "", 0, "", 0.0, {})
    return Saliency(data.float(), grid, grid, unknown, source=grid)


def written(path: Path) -> tuple[Array, Array]:
    """Values and affine as nibabel reads them."""
    image = nib.load(path)
    return np.asarray(image.dataobj, np.float64), image.affine


def positions(shape: tuple[int, ...], affine: Array) -> Array:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def seen(folder: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    path = folder / "seen.nii.gz"
    return written(path)[0] > 0 if path.is_file() else np.ones(shape, bool)


def angles(affine: Array) -> Array:
    """The cosines between the axes."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return np.abs(axes.T @ axes - np.eye(3))


def tilted(folder: Path, seed: int, shear: float) -> medxai.Volume:
    """An address phantom as a DICOM series, read back to its true place."""
    grid = right_handed(random_affine(seed, shear))
    write_series(folder, address(SHAPE), grid)
    volume = medxai.read_volume(folder)
    assert farthest_mm(volume, grid) < 1e-3
    return volume


@pytest.mark.parametrize(("seed", "shear"), [(0, 0.0), (1, 0.3), (2, -1.1), (3, 0.7)])
def test_every_voxel_lands_at_its_patient_position(tmp_path: Path, seed: int, shear: float) -> None:
    """A map that is linear in mm is read without error: each written voxel must hold the value of its own position."""
    volume = tilted(tmp_path / "series", seed, shear)
    own = volume.geometry
    saliency = map_of(torch.from_numpy(positions(own.shape, own.affine) @ DIRECTION), own)
    for orthogonal in (False, True):
        out = tmp_path / f"{orthogonal}"
        medxai.save_overlay(saliency, medxai.Case("a", volume), out, orthogonal=orthogonal)
        values, affine = written(out / "saliency.nii.gz")
        where = positions(values.shape, affine)
        apart = np.abs(values - where @ DIRECTION)
        index = own.index(where.reshape(-1, 3)).reshape(where.shape)
        beyond = np.maximum(-index, index - np.array(own.shape) + 1).max(axis=-1)
        within, known = beyond < 1e-3, seen(out, values.shape)
        assert not (within & ~known).any()
        assert not (known & (beyond > 0.5 + 1e-3)).any()  # the outermost voxels reach half a step further
        assert within.sum() > 0.75 * np.prod(own.shape)
        assert apart[within].max() < 2e-3
        assert (angles(affine).max() < 1e-4) == (orthogonal or shear == 0)


@pytest.mark.parametrize("seed", range(4))
def test_slices_stay_in_their_planes_and_every_voxel_is_covered(tmp_path: Path, seed: int) -> None:
    volume = tilted(tmp_path / "series", seed, 0.6)
    own, grid = volume.geometry, volume.geometry.orthogonal()
    assert grid.shape[2] == own.shape[2]
    where = grid.index(positions(own.shape, own.affine).reshape(-1, 3)).reshape(*own.shape, 3)
    assert np.abs(where[..., 2] - np.arange(own.shape[2])).max() < 1e-9
    assert where.min() > -1e-6
    assert (where.max(axis=(0, 1, 2)) < np.array(grid.shape) - 1 + 1e-6).all()
    assert own.spacing[:2] == pytest.approx(grid.spacing[:2])
    assert grid.orthogonal() is grid


def test_a_grid_of_two_axes_and_one_sheared_beyond_use() -> None:
    flat = Geometry(np.diag([0.5, 0.5, 1.0, 1.0]), (8, 9))
    assert flat.orthogonal() is flat
    bent = np.diag([1.0, 1.0, 1.0, 1.0])
    bent[0, 1] = 0.5
    straight = Geometry(bent, (8, 9), "unknown").orthogonal()
    assert (straight.shape, straight.units) == ((12, 9), "unknown")
    bent[1, 2] = 40.0
    with pytest.raises(medxai.errors.GeometryError, match="sheared too far"):
        Geometry(bent, (8, 9, 10)).orthogonal()


def test_the_written_map_knows_where_it_comes_from(tmp_path: Path) -> None:
    volume = tilted(tmp_path / "series", 1, 0.6)
    medxai.save_overlay(map_of(volume.data[0], volume.geometry), medxai.Case("a", volume), tmp_path, orthogonal=True)
    again = medxai.load_overlay(tmp_path / "saliency.nii.gz")
    assert again.source == volume.geometry
    assert again.provenance.notices[-1].startswith("D27: the image's grid is sheared")
    mask = medxai.Mask(volume.data[0] == volume.data[0].max(), volume.geometry)
    assert medxai.evaluate(again, mask)["pointing_game"].value == 1.0


@pytest.fixture(scope="module")
def head(data_dir, tmp_path_factory) -> Path:
    """A real head CT, tilted by 19 degrees and of uneven steps: its own density as the map, written both ways."""
    folder = tmp_path_factory.mktemp("tilt")
    volume = medxai.read_volume(data_dir("dicom/ge_head_gantry_tilt"), options=ReadOptions(resample_irregular=True))
    assert {"D21", "D27"} <= set(codes(volume.notices))
    for name in ("sheared", "orthogonal"):
        saliency = map_of(volume.data[0], volume.geometry)
        medxai.save_overlay(saliency, medxai.Case("a", volume), folder / name, orthogonal=name == "orthogonal")
    return folder


@pytest.mark.parametrize("name", ["sheared", "orthogonal"])
def test_the_overlay_of_a_real_tilted_head_lies_on_its_slices(head: Path, data_dir, name: str) -> None:
    """At the place of a pixel of the first and the last slice, which nothing interpolated, is the value of that pixel.

    The steps are uneven, so the other slices have none of their own; on the grid without shear two pixels are mixed.
    """
    values, affine = written(head / name / "saliency.nii.gz")
    assert (angles(affine).max() < 1e-4) == (name == "orthogonal")
    slices = [dcmread(path) for path in data_dir("dicom/ge_head_gantry_tilt").glob("*.dcm")]
    slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    rows, columns = (n.ravel() for n in np.meshgrid(np.arange(150, 360, 5), np.arange(150, 360, 5), indexing="ij"))
    for one in (slices[0], slices[-1]):
        along_row, along_column = np.array(one.ImageOrientationPatient, float).reshape(2, 3)
        row_mm, column_mm = map(float, one.PixelSpacing)
        lps = np.array(one.ImagePositionPatient, float) + np.outer(columns * column_mm, along_row)
        lps += np.outer(rows * row_mm, along_column)
        pixels = one.pixel_array[rows, columns] * float(one.RescaleSlope) + float(one.RescaleIntercept)
        index = (lps @ LPS - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        assert np.abs(index[:, 2] - np.rint(index[:, 2])).max() < 1e-3
        found = map_coordinates(values, index.T, order=1, mode="nearest")
        assert np.abs(found - pixels).max() < 0.5 or name == "orthogonal"
        assert np.corrcoef(found, pixels)[0, 1] > 0.97


def test_simpleitk_reads_the_one_without_shear_in_its_place(head: Path) -> None:
    values, affine = written(head / "orthogonal" / "saliency.nii.gz")
    theirs = sitk.ReadImage(str(head / "orthogonal" / "saliency.nii.gz"))
    assert theirs.GetSize() == values.shape
    for corner in ([0, 0, 0], [n - 1 for n in values.shape]):
        ours = LPS @ (affine[:3, :3] @ corner + affine[:3, 3])
        np.testing.assert_allclose(theirs.TransformIndexToPhysicalPoint(corner), ours, atol=0.1)


@pytest.mark.parametrize("flags", [[], ["--orthogonal"]])
def test_the_command_line_has_a_flag_for_it(tmp_path: Path, flags: list[str]) -> None:
    tilted(tmp_path / "series", 1, 0.6)
    plan = tmp_path / "recipe.yaml"
    plan.write_text(yaml.safe_dump({"name": "as is", "transforms": []}), "utf-8")
    words = command(tmp_path / "series", tmp_path, plan, 0, tmp_path / "out")
    done = CliRunner().invoke(app, [*words, *flags], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (angles(written(tmp_path / "out" / "saliency.nii.gz")[1]).max() < 1e-4) == bool(flags)
    notices = json.loads((tmp_path / "out" / "provenance.json").read_text())["provenance"]["notices"]
    assert any("D27: the image's grid is sheared" in text for text in notices) == bool(flags)
