"""Landmarks known in patient millimetres come back from the command line where they are, and every mutant is caught."""

import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from typer.testing import CliRunner

import medxai
import medxai.core.resample
from medxai.cli.app import app
from medxai.core.geometry import Geometry
from tests.truth import centres, command, looker, masses, patient, recipe, save, save_mha, save_series

LANDMARK_MM = 0.05
SECOND_INTERPOLATION = 0.02  # of the longest voxel edge; every other recipe resamples before the model sees the scan
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def explained(seed, folder, levels=0, write=save):
    person = patient(seed)
    image = write(person, folder)
    plan = recipe(seed, person, folder / "recipe.yaml")
    done = CliRunner().invoke(app, command(image, folder, plan, levels, folder / "out"), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return person, folder / "out" / "saliency.nii.gz"


def by_nibabel(path):
    image = nib.load(path)
    return np.asarray(image.dataobj, np.float64), image.affine


def by_simpleitk(path):
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T.astype(np.float64), LPS @ affine


def error_mm(person, path, read=by_nibabel):
    values, affine = read(path)
    return float(np.linalg.norm(centres(values, affine, person.landmarks) - person.landmarks, axis=1).max())


@pytest.mark.parametrize("seed", range(12))
def test_every_landmark_comes_home(seed, tmp_path):
    person, path = explained(seed, tmp_path)
    values, affine = by_nibabel(path)
    assert Geometry(affine, values.shape).distance(person.grid) <= 1e-3
    allowed = SECOND_INTERPOLATION * max(person.grid.spacing) if seed % 2 else LANDMARK_MM
    assert error_mm(person, path, by_nibabel) <= allowed
    assert error_mm(person, path, by_simpleitk) <= allowed


@pytest.mark.parametrize("seed", range(12, 16))
def test_each_landmark_keeps_its_share(seed, tmp_path):
    """A flip that maps the grid onto itself would still swap which landmark is the heaviest."""
    person, path = explained(seed, tmp_path)
    shares = masses(*by_nibabel(path), person.landmarks)
    np.testing.assert_allclose(shares / shares[0], person.heights, rtol=0.03)


@pytest.mark.parametrize("seed", [40, 42, 44])
def test_landmarks_of_a_dicom_series_come_home(seed, tmp_path):
    person, path = explained(seed, tmp_path, write=save_series)
    assert error_mm(person, path, by_nibabel) <= LANDMARK_MM
    assert error_mm(person, path, by_simpleitk) <= LANDMARK_MM


@pytest.mark.parametrize("write", [save, save_mha], ids=["nifti", "mha"])
@pytest.mark.parametrize("seed", [50, 52])
def test_every_voxel_comes_home_with_its_address(seed, write, tmp_path):
    """A recipe that only turns, flips and pads, a network that looks at single voxels: the map is the scan itself."""
    person = patient(seed, size=20)
    address = np.arange(1, person.voxels.size + 1, dtype=np.float64).reshape(person.voxels.shape)
    image = write(replace(person, voxels=address), tmp_path)
    plan = recipe(seed, person, tmp_path / "recipe.yaml")
    plan.write_text(re.sub(r"(?m)^- CenterSpatialCrop:\n(  .*\n)*", "", plan.read_text()))
    done = CliRunner().invoke(app, command(image, tmp_path, plan, 0, tmp_path / "out"), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for read in (by_nibabel, by_simpleitk):
        values, affine = read(tmp_path / "out" / "saliency.nii.gz")
        assert Geometry(affine, values.shape).distance(person.grid) <= 1e-3
        np.testing.assert_array_equal(np.rint(values / values[0, 0, 0]), address)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("seed", [60, 61])
def test_every_cell_sits_at_the_centre_of_what_it_sees(levels, seed, tmp_path):
    """The centre of mass of a cell's gradient on the image, in patient millimetres, against the map's own grid."""
    person = patient(seed, size=40)
    case = medxai.load_case(save(person, tmp_path))
    plan = medxai.Recipe.from_yaml(recipe(seed, person, tmp_path / "recipe.yaml"))
    model = looker(levels)
    saliency = medxai.explain(model, case, medxai.GradCAM(layer="act"), medxai.ClassScore(1), plan, device="cpu")
    prepared = plan.apply(case.image)
    images = torch.rand(prepared.images.shape, requires_grad=True)
    layer = model.act(model.down(images))
    draw = np.random.default_rng(seed)
    for _ in range(10):
        cell = tuple(int(draw.integers(2, n - 2)) for n in layer.shape[2:])
        (gradient,) = torch.autograd.grad(layer[(0, 0, *cell)], images, retain_graph=True)
        seen = gradient[0, 0].double().numpy()
        index = np.stack(np.meshgrid(*[np.arange(n) for n in seen.shape], indexing="ij"), -1).reshape(-1, 3)
        middle = (seen.reshape(-1, 1) * index).sum(0) / seen.sum()
        claimed = prepared.geometry.index(saliency.geometry.world(np.array(cell, float)))
        assert np.abs(middle - claimed).max() <= 0.5


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("seed", [20, 21, 22])
def test_cells_of_a_strided_layer_come_home(levels, seed, tmp_path):
    person, path = explained(seed, tmp_path, levels)
    values, affine = by_nibabel(path)
    off = Geometry(affine, values.shape).index(centres(values, affine, person.landmarks))
    truth = Geometry(affine, values.shape).index(person.landmarks)
    assert np.abs(off - truth).max() <= 0.5


def nearest_instead_of_linear(monkeypatch):
    along = medxai.core.resample._along
    monkeypatch.setattr(medxai.core.resample, "_along", lambda v, s, t, order, mode: along(v, s, t, 0, mode))


def half_voxel_shift(monkeypatch):
    transform = ndimage.affine_transform

    def shifted(array, matrix, offset, shape, **options):
        return transform(array, matrix, np.asarray(offset) + 0.5, shape, **options)

    monkeypatch.setattr(medxai.core.resample.ndimage, "affine_transform", shifted)


def swapped_axes(monkeypatch):
    transform = ndimage.affine_transform

    def swapped(array, matrix, offset, shape, **options):
        order = [1, 0, 2]
        return transform(array, np.asarray(matrix)[order], np.asarray(offset)[order], shape, **options)

    monkeypatch.setattr(medxai.core.resample.ndimage, "affine_transform", swapped)


def reversed_slices(monkeypatch):
    along = medxai.core.resample._along
    monkeypatch.setattr(medxai.core.resample, "_along", lambda *a, **k: along(*a, **k)[..., ::-1].copy())


def dropped_lps_flip(monkeypatch):
    import medxai.core.geometry

    monkeypatch.setattr(medxai.core.geometry, "_LPS_RAS", np.eye(4))


def cells_placed_by_interpolate(monkeypatch):
    coarse = Geometry.coarse

    def usual(self, start, jump, shape):
        ratio = [n / m for n, m in zip(self.shape, shape, strict=True)]
        return coarse(self, [r / 2 - 0.5 for r in ratio], ratio, shape)

    monkeypatch.setattr(Geometry, "coarse", usual)


def one_case_error(folder, levels=0, write=save):
    return error_mm(*explained(30, folder, levels, write))


def test_mha_input_comes_home(tmp_path):
    assert one_case_error(tmp_path, write=save_mha) <= LANDMARK_MM


@pytest.mark.parametrize("mutate", [half_voxel_shift, swapped_axes, reversed_slices], ids=lambda f: f.__name__)
def test_mutants_of_the_reading_are_caught(mutate, tmp_path, monkeypatch):
    mutate(monkeypatch)
    assert one_case_error(tmp_path) > LANDMARK_MM


def test_nearest_interpolation_is_caught(tmp_path, monkeypatch):
    straight = [error_mm(*explained(seed, _folder(tmp_path, f"a{seed}"), levels=2)) for seed in (31, 32)]
    nearest_instead_of_linear(monkeypatch)
    mutated = [error_mm(*explained(seed, _folder(tmp_path, f"b{seed}"), levels=2)) for seed in (31, 32)]
    assert all(bad > LANDMARK_MM and bad > 2 * good for bad, good in zip(mutated, straight, strict=True))


def test_dropped_lps_flip_is_caught(tmp_path, monkeypatch):
    dropped_lps_flip(monkeypatch)
    assert one_case_error(tmp_path, write=save_mha) > LANDMARK_MM


def test_cells_placed_by_the_usual_interpolation_are_caught(tmp_path, monkeypatch):
    cells_placed_by_interpolate(monkeypatch)
    person, path = explained(33, tmp_path, levels=3)
    values, affine = by_nibabel(path)
    grid = Geometry(affine, values.shape)
    off = grid.index(centres(values, affine, person.landmarks)) - grid.index(person.landmarks)
    assert np.abs(off).max() > 0.5


def _folder(parent, name):
    (parent / name).mkdir()
    return parent / name
