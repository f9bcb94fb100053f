"""A DICOM study from the command line: series chosen, masks as DICOM objects, the same scores as from NIfTI."""

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from pydicom import dcmread
from typer.testing import CliRunner

from medxai.cli.app import app
from medxai.errors import InputError
from tests.io.dicom.test_masks import structure_set, write_seg
from tests.io.phantoms import write_series
from tests.truth import command, patient

GRID = np.array([[-1.0, 0, 0, 20], [0, -1.1, 0, 15], [0, 0, 1.3, -30], [0, 0, 0, 1.0]])


def explain(words: list[str]) -> str:
    answer = CliRunner().invoke(app, words)
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.output


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, NDArray[np.bool_], list[str]]:
    """A series, the same region as SEG, RTSTRUCT and NIfTI, and the words that explain it."""
    person = patient(3, size=24)
    voxels = (person.voxels * 1000).astype(np.int16)
    slices = write_series(tmp_path / "ct", voxels, GRID)
    for s in slices:
        s.PatientBirthDate = s.PatientSex = s.StudyDate = s.StudyTime = s.AccessionNumber = s.StudyID = ""
        s.ReferringPhysicianName = s.PositionReferenceIndicator = ""
    region = np.zeros(voxels.shape, bool)
    region[6:14, 8:15, 9:13] = True
    write_seg(tmp_path / "seg.dcm", slices, region)
    corners = np.array([[5.6, 7.6], [13.4, 7.6], [13.4, 14.4], [5.6, 14.4]])
    planes = [np.column_stack([corners, np.full(4, k), np.ones(4)]) @ GRID.T * [-1, -1, 1, 1] for k in range(9, 13)]
    structure_set(tmp_path / "rt.dcm", str(slices[0].FrameOfReferenceUID), [plane[:, :3] for plane in planes])
    nib.save(nib.Nifti1Image(region.astype(np.uint8), GRID), tmp_path / "mask.nii.gz")
    plan = tmp_path / "recipe.yaml"
    plan.write_text(yaml.safe_dump({"name": "as is", "transforms": [{"Orientation": {"axcodes": "RAS"}}]}), "utf-8")
    return tmp_path, region, [str(word) for word in command(tmp_path / "ct", tmp_path, plan, 1, tmp_path / "out")]


def scores(folder: Path) -> dict[str, float]:
    rows = json.loads((folder / "out" / "scores.json").read_text())["scores"]
    return {row["metric"]: row["value"] for row in rows}


def test_every_kind_of_mask_gives_the_same_scores(study: tuple[Path, NDArray[np.bool_], list[str]]) -> None:
    folder, _, words = study
    found = []
    for name in ("mask.nii.gz", "seg.dcm", "rt.dcm"):
        explain([*words, "--mask", str(folder / name)])
        found.append(scores(folder))
    assert found[1] == found[2]
    assert found[0] == pytest.approx(found[1], rel=1e-4)  # the affine of NIfTI is float32
    assert found[0]["mass_in_mask"] > 0
    table = explain(
        [
            "evaluate",
            str(folder / "out" / "saliency.nii.gz"),
            str(folder / "seg.dcm"),
            "--mask-image",
            str(folder / "ct"),
        ]
    )
    assert "mass_in_mask" in table


def test_of_two_series_one_is_named(study: tuple[Path, NDArray[np.bool_], list[str]]) -> None:
    folder, _, words = study
    for path in sorted((folder / "ct").iterdir()):
        dataset = dcmread(path)
        dataset.SeriesInstanceUID = "1.2.3"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.save_as(folder / "ct" / f"b{path.name}")
    with pytest.raises(InputError, match=r"\[D24\]"):
        explain(words)
    assert "GradCAM" in explain([*words, "--series", "1.2.3"])
