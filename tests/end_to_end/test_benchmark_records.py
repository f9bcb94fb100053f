"""What benchmarks write is JSON for every reader, and each method is asked at the layers of the question."""

import json
import sys
from dataclasses import replace
from math import nan

import pytest

from benchmarks import brats_patches
from benchmarks.brats.scoring import METRICS, Fold
from benchmarks.survey import Question, Row, named, write
from medxai import catalog
from medxai.attribution.combined import LayersMethod


def strict(path):
    """The content of a file in which NaN has no name of its own."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


def test_a_mean_over_no_map_is_null(tmp_path):
    row = Row("GradCAM", maps=2, value={"lesion": {"auroc": nan, "deletion": 0.5}}, chance={"noise": {"lesion": {}}})
    write(tmp_path / "new" / "survey.json", [row], {"seed": 1, "share": nan})
    found = strict(tmp_path / "new" / "survey.json")
    assert (found["seed"], found["share"]) == (1, None)
    assert found["methods"][0]["value"] == {"lesion": {"auroc": None, "deletion": 0.5}}


def test_a_patient_without_a_map_is_null_too(tmp_path, monkeypatch):
    """Training and maps of patches are stood in for: what is written of them is asked."""
    silent = dict.fromkeys(METRICS, nan)
    fold = Fold("brats_2013_1", 3, 3, 0.5, 0.1, value=silent, uniform=silent, centre=silent)
    person = type("Patient", (), {"case": type("Case", (), {"id": fold.patient})})
    monkeypatch.setattr(brats_patches, "load_patients", lambda _folder: [person])
    monkeypatch.setattr(brats_patches, "train", lambda _others, _seed: None)
    monkeypatch.setattr(brats_patches, "score", lambda _model, _patient, _patches: fold)
    monkeypatch.setattr(sys, "argv", ["brats_patches", "--whole", "--out", str(tmp_path / "new")])
    brats_patches.main()
    (found,) = strict(tmp_path / "new" / "brats.json")["folds"]
    assert found["value"] == dict.fromkeys(METRICS)
    assert found["auc"] == 0.5


@pytest.mark.parametrize("name", [name for name, made in catalog.methods().items() if issubclass(made, LayersMethod)])
def test_methods_of_several_layers_are_asked_at_those_of_the_question(name):
    question = Question(None, "b", None, {}, layers=("a", "b"))
    assert named([name])[name](question).layers == ("a", "b")
    assert named([name])[name](replace(question, layers=())).layers == ("b",)
