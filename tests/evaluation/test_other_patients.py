"""The mean map of other patients lies where their maps do in the patient, and is of the same target."""

import csv
import json
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from medxai.cli.app import app
from medxai.core.geometry import Geometry
from medxai.core.resample import read_on
from medxai.core.saliency import Provenance, Saliency, Status
from medxai.core.volume import Case, Mask
from medxai.errors import GeometryError, UsageError
from medxai.evaluation import Chance, evaluate
from medxai.evaluation.prior import Extent, on_axes_of, prior, reoriented
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
            rows.append([f"map{number}{label}.nii.gz", f"mask{number}.nii.gz", label, f"p{number}", f"{number}{label}"])
    head = ["saliency", "mask", "label", "patient", "case"]
    (first,), (second,) = (rows_of(tmp_path, head, rows[start::2]) for start in (0, 1))
    assert rows_of(tmp_path, head, rows) == [first, second]
    assert min(row["chance"]["others"] for row in (first, second)) > 0.5


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
        assert np.array_equal(reoriented(values, "RAS", axcodes).numpy(), expected)
        assert torch.equal(reoriented(reoriented(values, "RAS", axcodes), axcodes, "RAS"), values)
    assert torch.equal(reoriented(values[0], "PL", "RA"), values[0].T.flip(0, 1))
    with pytest.raises(GeometryError, match="other lines of the patient"):
        reoriented(values[0], "PL", "AS")


def saliency(values, grid, seen=None, status=""):
    told = Provenance("test", {}, "", "", (), "", "", 0, "", 0.0, {})
    return Saliency(values, grid, seen or grid, told, Status(status))


def test_a_map_that_points_nowhere_is_in_no_mean_and_is_counted():
    """A degenerate map, one nowhere positive and plain values that are infinite, also beside one that points."""
    values = torch.from_numpy(spot(1).get_fdata(dtype=np.float32))
    sound, silent = saliency(torch.rand(SHAPE), GRID), saliency(-values, GRID)
    poor = [saliency(values, GRID, status="dead"), silent, torch.full(SHAPE, torch.inf)]
    asked = saliency(values, GRID), Mask(values > 0, GRID), ["auroc"]
    alone = evaluate(*asked, chance=Chance(others=(sound,)))
    assert alone.notices == ()
    for others in (*([one] for one in poor), poor):
        beside, bare = (evaluate(*asked, chance=Chance(others=(*more, *others))) for more in ([sound], []))
        assert beside["auroc"] == alone["auroc"]
        assert beside.notices[0].startswith(f"{len(others)} of {len(others) + 1} maps of other patients")
        assert "others" not in bare["auroc"].chance
    assert prior([("a", poor[0]), ("b", silent)]).whole == {}


def test_the_prior_of_a_patient_is_the_sum_over_all_others():
    """Patients of two maps, of one and of none; and where there is one patient alone, there is no other."""
    parts = [saliency(torch.rand(SHAPE), GRID) for _ in range(5)]
    owned = list(zip(("a", "b", "a", "c", "d"), parts, strict=True))
    found = prior(owned)
    for patient in ("a", "b", "c", "d", "nobody"):
        wanted = prior((f"{n}", one) for n, (own, one) in enumerate(owned) if own != patient).whole[Extent("RAS", 3)]
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


ORIENTATIONS = ["".join(codes) for lines in permutations(("RL", "AP", "SI")) for codes in product(*lines)]
CUBE = {"R": 5, "A": 6, "S": 7}


def grid_of(axcodes, size):
    """Voxels of 1 mm around the origin, so many along each line of the patient."""
    lines = axcodes.translate(str.maketrans("LPI", "RAS"))
    affine = np.eye(4)
    affine[:3, :3] = [[(line == row) * (1 if line == code else -1) for line, code in zip(lines, axcodes, strict=True)]
                      for row in "RAS"]  # fmt: skip
    shape = tuple(size[line] for line in lines)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(affine, shape)


@pytest.mark.parametrize("across", ["R", "A", "S", "none"])
@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_voxels_of_any_orientation_land_where_they_lie(axcodes, across):
    """As reading through the affine, which here meets the centres of voxels; of volumes of one slice too."""
    size = CUBE if across == "none" else {**CUBE, across: 1}
    source = grid_of(axcodes, size)
    values = torch.rand(source.shape)
    for target in (grid_of(other, size) for other in ORIENTATIONS):
        found = on_axes_of(target, saliency(values, source))
        torch.testing.assert_close(found, read_on(values, source, target), atol=1e-5, rtol=0)


def test_a_plane_lies_on_a_volume_of_one_slice_and_back():
    slice_, other = grid_of("LPS", {**CUBE, "A": 1}), grid_of("SRA", {**CUBE, "A": 1})
    plane = Geometry(np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]), (7, 5))
    assert (plane.axcodes, slice_.shape, other.shape) == ("SR", (5, 1, 7), (7, 5, 1))
    values = torch.rand(5, 1, 7)
    flat = on_axes_of(plane, saliency(values, slice_))
    assert torch.equal(flat, values[:, 0].flip(0).T)
    assert torch.equal(on_axes_of(slice_, saliency(flat, plane)), values)
    assert torch.equal(on_axes_of(other, saliency(flat, plane)), flat[..., None])
    for grid, map_ in ((plane, GRID), (GRID, plane), (grid_of("RAS", {**CUBE, "S": 1}), slice_)):
        with pytest.raises(GeometryError, match="cannot be laid"):
            on_axes_of(grid, saliency(torch.rand(map_.shape), map_))


def test_the_map_of_a_layer_of_one_cell_of_depth_is_of_a_volume():
    """4 x 4 x 1 cells, the other's mass in one of them: interpolated beside one map, cell by cell in a table."""
    grid = Geometry(np.diag([1.0, 1.0, 2.0, 1.0]), (16, 16, 10))
    cells = grid.coarse((1.5, 1.5, 4.5), (4, 4, 10), (4, 4, 1))
    values = torch.zeros(4, 4, 1)
    values[1, 1] = 1
    first, second = saliency(torch.ones(4, 4, 1), cells, grid), saliency(values, cells, grid)
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[4:8, 4:8, 2:5] = True
    laid = prior([("a", first), ("b", second)]).without("a", grid)
    for other, share in ((second, 0.75**2), (laid, 1.0)):
        found = evaluate(first, Mask(mask, grid), ["mass_in_mask"], chance=Chance(others=(other,)))
        assert found["mass_in_mask"].chance["others"] == pytest.approx(share * 3 / 10)


@pytest.fixture
def volumes(tmp_path):
    """Three volumes with the same finding, annotated on one slice each."""
    for number in range(3):
        nib.save(spot(1), tmp_path / f"map{number}.nii.gz")
        low = AFFINE @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1.0]])
        nib.save(
            nib.Nifti1Image(spot(1).get_fdata()[..., 2:3].astype(np.uint8), low), tmp_path / f"mask{number}.nii.gz"
        )
    return tmp_path


def test_volumes_annotated_on_one_slice_stand_beside_other_volumes(volumes):
    (row,) = rows_of(volumes, ["saliency", "mask"], [[f"map{n}.nii.gz", f"mask{n}.nii.gz"] for n in range(3)])
    words = ["evaluate", str(volumes / "map0.nii.gz"), str(volumes / "mask0.nii.gz"), "--metric", "mass_in_mask"]
    done = CliRunner().invoke(app, [*words, "--other", str(volumes / "map1.nii.gz"), "--json"], catch_exceptions=False)
    (score,) = json.loads(done.stdout)["scores"]
    assert row["chance"]["others"] > 0.5
    assert score["chance"]["others"] > 0.5


def test_a_table_says_where_maps_of_other_patients_lie_in_another_plane(tmp_path):
    """Two axial slices, a coronal one and a volume: what cannot be laid is said, and what can be still counts."""
    sizes = {"a": (12, 10, 1), "b": (12, 10, 1), "c": (12, 1, 8), "d": SHAPE}
    rows = []
    for name, size in sizes.items():
        nib.save(
            nib.Nifti1Image(np.random.default_rng(0).random(size, np.float32), AFFINE), tmp_path / f"{name}.nii.gz"
        )
        nib.save(nib.Nifti1Image(np.ones(size, np.uint8), AFFINE), tmp_path / f"{name}_mask.nii.gz")
        rows.append([f"{name}.nii.gz", f"{name}_mask.nii.gz", name])
    said = {}
    for kept in ("abcd", "abd", "c", "ac"):
        with (tmp_path / "cohort.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["saliency", "mask", "case"], *(row for row in rows if row[2] in kept)])
        words = ["evaluate", str(tmp_path / "cohort.csv"), "--metric", "mass_in_mask", "--json"]
        cases = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)["cases"]
        for case in cases:
            told = any("another plane" in notice for notice in case["notices"])
            said[kept, case["case"]] = told, "others" in case["scores"][0]["chance"]
    assert {case: said["abcd", case] for case in "abcd"} == {
        "a": (True, True),
        "b": (True, True),
        "c": (True, True),
        "d": (False, True),
    }
    assert [said["abd", case] for case in "abd"] == [(False, True)] * 3
    assert said["c", "c"] == (False, False)
    assert [said["ac", case] for case in "ac"] == [(True, False)] * 2


@pytest.mark.parametrize("asked", [{"seed": -1}, {"places": 18}])
def test_what_draws_nothing_is_refused(asked):
    with pytest.raises(UsageError, match=str(next(iter(asked.values())))):
        Chance(**asked)
