"""Rows M03, M07 and M11 of docs/bad_inputs.md from the command line, for one case and for a table of cases."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medxai.cli.app import app
from medxai.errors import InputError

SHAPE = (8, 7, 6)


def write(path: Path, values: np.ndarray) -> str:
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0])), path)
    return path.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two maps, three annotations: one, an empty one, and one of shares."""
    region = np.zeros(SHAPE)
    region[2:5, 2:5, 2:4] = 1
    for name, values in {"one": region, "empty": 0 * region, "shares": region * 0.5}.items():
        write(tmp_path / f"{name}.nii.gz", values)
    for n in range(2):
        write(tmp_path / f"map{n}.nii.gz", np.random.default_rng(n).random(SHAPE) + region)
    return tmp_path


def table(folder: Path, *rows: tuple[str, str, str]) -> Path:
    with (folder / "cohort.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("saliency", "mask", "patient"), *rows])
    return folder / "cohort.csv"


def scored(*words: object) -> dict:
    done = CliRunner().invoke(app, ["evaluate", *map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_m03_an_empty_mask_is_left_out_of_the_mean_and_counted(folder: Path) -> None:
    found = scored(
        table(folder, ("map0.nii.gz", "one.nii.gz", "a"), ("map1.nii.gz", "empty.nii.gz", "b")),
        "--metric", "mass_in_mask",
    )  # fmt: skip
    (row,) = found["metrics"]
    alone = scored(folder / "map0.nii.gz", folder / "one.nii.gz", "--metric", "mass_in_mask")
    assert row["undefined"] == {"empty mask": 1}
    assert row["cases"] == 1
    assert row["mean"] == pytest.approx(alone["scores"][0]["value"])


def test_m11_every_mask_is_named_and_an_image_without_one_is_refused(folder: Path) -> None:
    both = (("map0.nii.gz", "one.nii.gz", "a"), ("map0.nii.gz", "shares.nii.gz", "a"))
    assert len(scored(table(folder, *both), "--soft", "--metric", "mass_in_mask")["cases"]) == 2
    with pytest.raises(InputError, match="Row 3 of the table"):
        scored(table(folder, both[0], ("map1.nii.gz", "", "b")))


def test_m07_shares_are_scored_where_that_is_permitted(folder: Path) -> None:
    whole = scored(folder / "map0.nii.gz", folder / "one.nii.gz", "--metric", "mass_in_mask")
    half = scored(folder / "map0.nii.gz", folder / "shares.nii.gz", "--soft", "--metric", "mass_in_mask")
    assert half["scores"][0]["value"] == pytest.approx(whole["scores"][0]["value"] / 2)
    refused = CliRunner().invoke(app, ["evaluate", str(folder / "map0.nii.gz"), str(folder / "shares.nii.gz")])
    assert "[M06]" in str(refused.exception)
