"""The mean map of other patients lies where their maps do in the patient, and is of the same target."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from medxai.cli.app import app
from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency
from medxai.core.volume import Case, Mask
from medxai.errors import GeometryError
from medxai.evaluation import Chance, evaluate
from medxai.evaluation.prior import prior, turned
from medxai.io.read import read_volume
from medxai.overlay import load_overlay, save_overlay

SHAPE, AFFINE = (12, 10, 8), np.diag([2.0, 2.0, 3.0, 1.0])
GRID = Geometry(AFFINE, SHAPE)


def spot(low):
    values = np.zeros(SHAPE, np.float32)
    values[low : low + 3, 2:5, 1:4] = 1
    return nib.Nifti1Image(values, AFFINE)


def rows_of(folder, head, rows):
    with (folder / "cohort.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    words = ["evaluate", str(folder / "cohort.csv"), "--metric", "mass_in_mask", "--json"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["metrics"]


@pytest.mark.parametrize("axcodes", ["RAS", "LAS", "RPI", "SAR", "PIL"])
def test_other_patients_lie_in_the_patient_however_masks_are_stored(tmp_path, axcodes):
    """Three identical patients: the mean map of the two others is the map itself, whatever order the voxels are in."""
    ornt = nib.orientations.axcodes2ornt(axcodes)
    rows = []
    for number in range(3):
        nib.save(spot(1), tmp_path / f"map{number}.nii.gz")
        nib.save(spot(1).as_reoriented(ornt), tmp_path / f"mask{number}.nii.gz")
        rows.append([f"map{number}.nii.gz", f"mask{number}.nii.gz"])
    (row,) = rows_of(tmp_path, ["saliency", "mask"], rows)
    assert row["mean"] == pytest.approx(1)
    (plain,) = rows_of(tmp_path, ["saliency", "mask"], [[r[0], r[0]] for r in rows])
    assert row["chance"]["others"] == pytest.approx(plain["chance"]["others"], abs=1e-5)
    assert row["chance"]["others"] > 0.5


def test_other_patients_are_of_the_same_label(tmp_path):
    """Two findings per patient at two places: the maps of one say nothing of where those of the other point."""
    rows = []
    for number in range(3):
        labels = spot(1).get_fdata() + 2 * spot(8).get_fdata()
        nib.save(nib.Nifti1Image(labels.astype(np.float32), AFFINE), tmp_path / f"mask{number}.nii.gz")
        for label, low in ((1, 1), (2, 8)):
            nib.save(spot(low), tmp_path / f"map{number}{label}.nii.gz")
            rows.append([f"map{number}{label}.nii.gz", f"mask{number}.nii.gz", label, f"p{number}"])
    head = ["saliency", "mask", "label", "patient"]
    (both,) = rows_of(tmp_path, head, rows)
    (first,), (second,) = (rows_of(tmp_path, head, rows[start::2]) for start in (0, 1))
    alone = (first["chance"]["others"] + second["chance"]["others"]) / 2
    assert both["chance"]["others"] == pytest.approx(alone, abs=1e-6)
    assert both["chance"]["others"] > 0.5


def test_another_patients_map_is_turned_to_the_annotation():
    """A map stored from left to right and one stored from right to left, each of one patient with the finding there."""
    values = torch.from_numpy(spot(1).get_fdata(dtype=np.float32))
    flipped = Geometry(AFFINE @ np.array([[-1, 0, 0, 11], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), SHAPE)
    mask = Mask(values > 0, GRID)
    other = saliency(values.flip(0), flipped)
    found = evaluate(saliency(values, GRID), mask, ["mass_in_mask"], chance=Chance(others=(other,)))
    assert found["mass_in_mask"].chance["others"] == pytest.approx(1)


def test_axes_are_turned_and_planes_are_told_apart():
    values = torch.rand(4, 5, 6)
    for axcodes in ("LPS", "SAR", "PIL", "AIR"):
        ornt = nib.orientations.axcodes2ornt(axcodes)
        move = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), ornt)
        expected = nib.orientations.apply_orientation(values.numpy(), move)
        assert np.array_equal(turned(values, "RAS", axcodes).numpy(), expected)
        assert torch.equal(turned(turned(values, "RAS", axcodes), axcodes, "RAS"), values)
    assert torch.equal(turned(values[0], "PL", "RA"), values[0].T.flip(0, 1))
    with pytest.raises(GeometryError, match="two planes"):
        turned(values[0], "PL", "AS")


def saliency(values, grid):
    return Saliency(values, grid, grid, Provenance("test", {}, "", "", (), "", "", 0, "", 0.0, {}))


def test_the_prior_of_a_patient_is_the_sum_over_all_others():
    """Patients of two maps, of one and of none; and where there is one patient alone, there is no other."""
    parts = [saliency(torch.rand(SHAPE), GRID) for _ in range(5)]
    owned = list(zip(("a", "b", "a", "c", "d"), parts, strict=True))
    found = prior(owned)
    for patient in ("a", "b", "c", "d", "nobody"):
        wanted = prior((f"{n}", one) for n, (own, one) in enumerate(owned) if own != patient).whole["RAS"]
        assert torch.allclose(found.without(patient, GRID), wanted, atol=1e-7)
    assert prior(owned[:1]).without("a", GRID) is None
    assert prior([]).without("a", GRID) is None


@pytest.fixture
def films(tmp_path):
    """Three films without a pixel size, each with its map as it is saved: a volume of one slice."""
    for number in range(3):
        mask = np.zeros((20, 24), np.uint8)
        mask[2:9, 3 + number : 10 + number] = 255
        Image.fromarray(mask).save(tmp_path / f"film{number}.png")
        film = read_volume(tmp_path / f"film{number}.png")
        values = saliency(torch.from_numpy(mask / 255).float().reshape(film.geometry.shape), film.geometry)
        save_overlay(values, Case(f"{number}", film, {}, {}), tmp_path / f"out{number}")
    return tmp_path


def test_films_stand_beside_the_mean_map_of_other_films(films):
    table = [[f"out{number}/saliency.nii.gz", f"film{number}.png"] for number in range(3)]
    (row,) = rows_of(films, ["saliency", "mask"], table)
    assert row["chance"]["others"] > 0.5
    mask, others = (
        Mask(read_volume(films / "film0.png").data[0] > 0, read_volume(films / "film0.png").geometry),
        tuple(load_overlay(films / f"out{number}/saliency.nii.gz") for number in (1, 2)),
    )
    found = evaluate(load_overlay(films / "out0/saliency.nii.gz"), mask, ["mass_in_mask"], chance=Chance(others=others))
    assert found["mass_in_mask"].chance["others"] > 0.5


def test_a_length_asked_of_films_without_a_pixel_size_is_refused(films):
    (films / "table.csv").write_text("saliency,mask\nout0/saliency.nii.gz,film0.png\n", "utf-8")
    done = CliRunner().invoke(app, ["evaluate", str(films / "table.csv"), "--metric", "peak_distance"])
    assert isinstance(done.exception, GeometryError)
