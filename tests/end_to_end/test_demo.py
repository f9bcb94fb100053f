"""The demo's cohort is what it claims to be, and the demo goes its whole way."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from medxai.core.geometry import Geometry
from medxai.demo.cohort import TILT_DEGREES, draw_patient, positions
from medxai.demo.model import build, build_by_patch
from medxai.demo.run import Plan, run_demo
from medxai.demo.training import auc
from medxai.errors import WriteError
from medxai.metrics.lesions import by_lesion
from medxai.metrics.reading import Reading
from medxai.model.guard import seeded


def test_the_same_seed_draws_the_same_patient() -> None:
    first, again, other = draw_patient(3, 1), draw_patient(3, 1), draw_patient(4, 1)
    assert first.case.image.digest == again.case.image.digest
    assert torch.equal(first.case.masks["lesion"].data, again.case.masks["lesion"].data)
    assert first.case.image.digest != other.case.image.digest


def test_positions_are_the_grid_s_own() -> None:
    geometry = draw_patient(0, 0).case.image.geometry
    index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), -1).reshape(-1, 3)
    assert np.abs(positions(geometry).T - geometry.world(index.astype(np.float64))).max() < 1e-3


@pytest.mark.parametrize("number", [1, 3, 5])
def test_the_mask_is_the_lesion_in_millimetres(number: int) -> None:
    patient = draw_patient(0, number)
    (lesion,), mask = patient.chest.lesions, patient.case.masks["lesion"]
    where = mask.geometry.world(mask.data.nonzero().double().numpy())
    octants = np.array([np.prod([lesion.radii[s, a] for a, s in enumerate(signs)]) for signs in np.ndindex(2, 2, 2)])
    volume = 4 / 3 * np.pi * octants.mean()
    assert len(where) * mask.geometry.voxel_size_mm == pytest.approx(volume, rel=0.05)
    own = (where - lesion.centre - patient.origin) @ lesion.axes
    assert (own.max(0) <= lesion.radii[0] + 0.01).all()
    assert (own.min(0) >= -lesion.radii[1] - 0.01).all()
    assert np.abs(own.mean(0) - (lesion.radii[0] - lesion.radii[1]) * 3 / 8).max() < 1.0
    hu = patient.case.image.data[0][mask.data].double()
    assert float(hu.mean()) == pytest.approx(30, abs=60)
    assert float(np.abs(lesion.centre[0])) > 20


def test_grids_are_oblique_flipped_and_anisotropic_and_half_the_patients_ill() -> None:
    grids, signs = [], set()
    for number in range(8):
        patient = draw_patient(1, number)
        assert len(patient.chest.lesions) == len(patient.case.masks) == number % 2
        geometry = patient.case.image.geometry
        first, second, third = geometry.spacing
        assert first == pytest.approx(second)
        assert third / first > 1.3
        axes = geometry.affine[:3, :3] / np.array(geometry.spacing)
        signs.add(tuple(np.sign(np.diag(axes))))
        angle = np.degrees(np.arccos(np.clip((np.trace(np.abs(axes)) - 1) / 2, -1, 1)))
        assert angle <= TILT_DEGREES * 1.1
        grids.append(geometry)
    assert len(signs) > 2
    assert any(np.abs(g.affine[:3, :3] - np.diag(np.diag(g.affine[:3, :3]))).max() > 0.1 for g in grids)


def test_two_lesions_lie_in_different_lungs_and_are_two_parts_of_one_mask() -> None:
    patient = draw_patient(0, 80, lesions=2)
    first, second = patient.chest.lesions
    assert first.centre[0] * second.centre[0] < 0
    mask = patient.case.masks["lesion"]
    sizes = [lesion.size for lesion in by_lesion(Reading(mask.data.float(), mask.data, mask.geometry))]
    assert len(sizes) == 2
    assert sum(sizes) * 1000 == pytest.approx(float(mask.data.sum()) * mask.geometry.voxel_size_mm)


def test_a_scan_is_judged_by_its_most_suspicious_patch() -> None:
    with seeded(0, torch.device("cpu")):
        network = build_by_patch().eval()
        scan = torch.rand(1, 1, 45, 41, 33)
    plain = build().eval()
    plain.load_state_dict(network.state_dict())
    with torch.no_grad():
        features = plain.features(scan).relu()
        found = []
        for start in np.ndindex(*(n - 9 + 1 for n in features.shape[2:])):
            i, j, k = start
            patch = features[..., i : i + 9, j : j + 9, k : k + 9].mean((2, 3, 4))
            found.append(plain.class_layers.out(patch)[0])
        torch.testing.assert_close(network(scan)[0], max(found, key=lambda logits: float(logits[1] - logits[0])))
        torch.testing.assert_close(network(scan[..., :33, :33, :33]), plain(scan[..., :33, :33, :33]))
    assert len(found) == 12


def test_auc_counts_ties_as_half() -> None:
    assert auc([3.0, 1.0], [0.0, 1.0]) == pytest.approx(3.5 / 4)


def _scores(folder: Path, metric: str) -> list[tuple[float, float]]:
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("patient-*/scores.json"))]
    found = [next(s for s in row["scores"] if s["metric"] == metric) for row in rows]
    return [(s["value"], max(s["chance"].values())) for s in found]


TINY = Plan(training=2, held_out=4, two_lesions=1, epochs=1)


def test_a_tiny_demo_goes_from_files_to_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    run_demo(out, seed=1, device="cpu", plan=TINY)
    said = capsys.readouterr().out
    folders = {"cohort", "model.safetensors", "recipe.yaml", "patient-03", "patient-05", "patient-06"}
    assert {path.name for path in out.iterdir()} == folders
    scan, saliency = (nib.load(out / name) for name in ("cohort/patient-03.nii.gz", "patient-03/saliency.nii.gz"))
    assert Geometry(scan.affine, scan.shape).same(Geometry(saliency.affine, saliency.shape))
    assert scan.get_fdata().min() >= -1024
    assert len(_scores(out, "pointing_game")) == 2
    assert "mean (n = 2)" in said
    assert "chance: uniform" in said
    first, both = (line for line in said.splitlines() if line.startswith("Open"))
    assert first.startswith(f"Open {out / 'patient-03' / 'overlay.png'}")
    assert both.startswith(f"Open {out / 'patient-06' / 'two_lesions.png'}")
    with Image.open(out / "patient-06" / "two_lesions.png") as picture:
        assert len(picture.getcolors(2**20) or ()) > 200
        assert picture.info == {}


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        run_demo(tmp_path / name, seed=2, device="cpu", plan=TINY)
    names = sorted(p.relative_to(tmp_path / "first") for p in (tmp_path / "first").rglob("*") if p.is_file())
    assert len(names) > 10
    for name in names:
        if name.name != "provenance.json":  # states how long the computation took
            assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot be written"):
        run_demo(tmp_path / "file", plan=TINY)


@pytest.mark.slow
def test_the_demo_finds_lesions_better_than_chance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_demo(tmp_path, device="cpu")
    said = re.search(r"AUC ([\d.]+)", capsys.readouterr().out)
    assert said is not None
    assert float(said.group(1)) >= 0.95
    for metric, least in (("pointing_game", 0.85), ("mass_in_mask", 0.15), ("iou_at_mask_size", 0.5)):
        pairs = _scores(tmp_path, metric)
        assert len(pairs) == 8
        value, chance = np.mean(pairs, axis=0)
        assert value >= least
        assert value > 10 * chance
    _two_lesions_are_both_in_the_inverse(tmp_path)


def _two_lesions_are_both_in_the_inverse(out: Path) -> None:
    patients = [json.loads(path.read_text()) for path in out.glob("patient-*/two_lesions.json")]
    assert len(patients) == 8
    weaker = {name: np.array([patient[name]["weaker"] for patient in patients]) for name in patients[0]}
    left = {name: np.array([patient[name]["left"] for patient in patients]) for name in ("IBA", "Inverse IBA")}
    assert weaker["IBA"].max() < 0.01
    assert weaker["Inverse IBA"].min() > 10 * weaker["chance: uniform"].max()
    assert weaker["Inverse IBA"].mean() > weaker["Grad-CAM"].mean()
    assert left["IBA"].min() > 0.1 > left["Inverse IBA"].max()
