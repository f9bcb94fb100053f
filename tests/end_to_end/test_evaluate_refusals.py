"""What a way of scoring cannot use is refused by name; two repeats of a case are two, and stay unnamed."""

import json
import re
import sys

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medxai.cli.app import app
from medxai.errors import TargetError, UsageError

BESIDE = "--image x --other x --again x --label 1 --mask-image x --atlas x --domain x"
FILMS = "--tune-maps x --tune-truth x --points x"
NETWORK = "--weights x --recipe x --target 1 --method GradCAM --layer a --output o --link softmax --factory-arg a=1"
TOLD = "--metric auroc --places 9 --no-noise"
REMOVAL = "--units voxels --baseline mean"
ASKED = ["map.nii.gz", "mask.nii.gz", "--model", "a:b"]
ARUN = "--retrained x --other-model a:b --other-weights x"


def refusal(*words, kind=UsageError):
    done = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    assert isinstance(done.exception, kind), done.output
    return str(done.exception)


@pytest.mark.parametrize(
    ("kind", "unused"),
    [
        ("table", f"{BESIDE} {FILMS} {NETWORK} {ARUN} {REMOVAL} --device cpu"),
        ("criteria", f"{BESIDE} {FILMS} {REMOVAL} {TOLD}"),
        ("films", f"{BESIDE} {NETWORK} {ARUN} {REMOVAL} {TOLD} --model a:b --spacing 1,1 --nan 0"),
        ("map", f"{FILMS} {ARUN} {NETWORK} {REMOVAL} --device cpu"),
        ("map and network", f"{FILMS} {ARUN}"),
        ("map and no question", "--model a:b --weights x"),
        ("map and a metric of a method", REMOVAL),
        ("map and the sensitivity to the weights", REMOVAL),
        ("map and metrics that remove in their own way", REMOVAL),
        ("map and a metric of the veiled image", "--units voxels"),
    ],
)
def test_options_without_a_use_are_refused_by_name(tmp_path, kind, unused):
    """Before any file is opened: none of those named here exists."""
    words = {
        "table": ["none.csv"],
        "criteria": ["none.csv", "--preset", "arun", "--model", "a:b", "--method", "GradCAM"],
        "films": [tmp_path, "truth.json", "--preset", "chexlocalize"],
        "map": ["map.nii.gz", "mask.nii.gz"],
        "map and network": ["map.nii.gz", "mask.nii.gz", "--model", "a:b", *NETWORK.split()],
        "map and a metric of a method": [*ASKED, "--metric", "flip_equivariance", "--method", "GradCAM"],
        "map and the sensitivity to the weights": [*ASKED, "--preset", "arun", "--method", "GradCAM"],
        "map and metrics that remove in their own way": [*ASKED, "--metric", "road", "--metric", "irof"],
        "map and a metric of the veiled image": [*ASKED, "--metric", "average_drop", "--baseline", "mean"],
        "map and no question": ["map.nii.gz", "mask.nii.gz", "--metric", "auroc"],
    }[kind]
    said = refusal(*words, *unused.split())
    names = [word.replace("--no-noise", "--noise") for word in unused.split() if word.startswith("--")]
    assert "makes no use of" in said
    assert [name for name in names if name not in said] == []
    for name in ("--preset", "--seed", "--json"):
        assert name not in said


def test_one_option_without_a_use_is_enough():
    assert "--atlas." in refusal("none.csv", "--atlas", "x")


@pytest.mark.parametrize("scored", [["none.csv"], ["map.nii.gz", "mask.nii.gz"]])
def test_a_preset_beside_metrics_chosen_by_name_is_refused(scored):
    assert "with --metric makes no use of --preset." in refusal(*scored, "--metric", "auroc", "--preset", "full")


@pytest.mark.parametrize("typo", [("--units", "spheres:3"), ("--baseline", "mean:7"), ("--target", "largest")])
def test_a_question_that_cannot_be_read_is_refused_before_the_map_is_scored(tmp_path, typo):
    """Neither the network nor the annotation is there."""
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), tmp_path / "map.nii.gz")
    (tmp_path / "recipe.yaml").write_text("{name: as is, transforms: []}", "utf-8")
    question = ["--weights", "none.pt", "--recipe", tmp_path / "recipe.yaml", "--target", 1, "--image", "none.nii"]
    said = refusal(
        tmp_path / "map.nii.gz", *ASKED[1:], *question, "--metric", "deletion", *typo, kind=(UsageError, TargetError)
    )
    assert typo[1] in said


def test_repeats_of_one_name_are_two_and_stay_unnamed(tmp_path, monkeypatch):
    """Two trainings that wrote the same file name into two folders: the first repeats the map, the second does not."""
    rng = np.random.default_rng(0)
    first, second = (rng.random((8, 8, 8)).astype(np.float32) for _ in range(2))
    words = ["evaluate"]
    for folder, values in (("own", first), ("mask", first > 0.5), ("one", first), ("two", second)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / f"{'mask' if folder == 'mask' else 'DOE JANE'}.nii.gz"
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), path)
        words += [*(["--again"] if folder in {"one", "two"} else []), str(path)]
    words += ["--metric", "auroc"]
    monkeypatch.setattr(sys, "argv", ["medxai", *words])
    found = json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).stdout)["again"]
    assert found["again 1"]["spearman"] == pytest.approx(1)
    assert abs(found["again 2"]["spearman"]) < 0.3
    for flags, named in (([], False), (["--show-names"], True)):
        monkeypatch.setattr(sys, "argv", ["medxai", *words, *flags])
        shown = CliRunner().invoke(app, words, catch_exceptions=False).stdout
        assert ("DOE JANE" in shown) == named
        assert "again 2" in shown
        assert "1.000" in shown
        assert not re.search(r"\d\.\d{4}", shown)
