"""The command line as a user meets it: results, tables, and one clear sentence where something is wrong."""

import gzip
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pydicom
import pydicom.data
import pytest
import torch
import yaml
from PIL import Image

from medxai import catalog
from medxai.cli.app import main
from medxai.cli.targets import parse_target
from medxai.core.target import ClassScore, ContrastScore, GroupScore, MarginScore, RegionScore, SignedScore
from medxai.errors import TargetError
from tests.truth import command, patient, save


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `medxai` with these words: (exit code, stdout, stderr)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["medxai", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def scan(tmp_path):
    """A scan, the words that explain it, and a mask on its brightest landmark."""
    person = patient(3, size=24)
    image = save(person, tmp_path)
    plan = tmp_path / "recipe.yaml"
    plan.write_text(yaml.safe_dump({"name": "as is", "transforms": [{"Orientation": {"axcodes": "RAS"}}]}), "utf-8")
    labels = np.zeros(person.grid.shape, np.uint8)
    labels[person.voxels > 0.7] = 2
    labels[person.voxels < 0.01] = 1
    nib.save(nib.Nifti1Image(labels, person.grid.affine), tmp_path / "labels.nii.gz")
    return tmp_path, list(command(image, tmp_path, plan, 1, tmp_path / "out"))


def test_explain_writes_all_it_promises(run, scan):
    folder, words = scan
    code, out, err = run(*words, "--mask", folder / "labels.nii.gz", "--label", "2")
    assert code == 0, err
    assert sorted(p.name for p in (folder / "out").iterdir()) == [
        "overlay.png", "provenance.json", "saliency.nii.gz", "scores.json",
    ]  # fmt: skip
    scores = json.loads((folder / "out" / "scores.json").read_text())
    rows = {row["metric"]: row for row in scores["scores"]}
    assert rows["mass_in_mask"]["value"] > 3 * rows["mass_in_mask"]["chance"]["uniform"]
    assert "mass_in_mask" in out
    record = json.loads((folder / "out" / "provenance.json").read_text())
    assert record["provenance"]["layer"] == "act"
    assert record["provenance"]["parameters"] == {"layer": "act", "relu": True}
    assert len(record["provenance"]["weights_sha256"]) == len(record["provenance"]["input_sha256"]) == 64
    assert record["provenance"]["versions"]["medxai-toolkit"]


def test_a_window_smaller_than_the_scan_gives_the_map_that_the_whole_gives(run, scan):
    folder, words = scan
    code, _, err = run(*words)
    assert code == 0, err
    whole = nib.load(folder / "out" / "saliency.nii.gz").get_fdata()
    code, _, err = run(*words, "--window", "16", "--overlap", "0.5", "--margin", "2")
    assert code == 0, err
    record = json.loads((folder / "out" / "provenance.json").read_text())["provenance"]
    assert record["method"] == "Tiled(GradCAM)"
    assert record["parameters"]["window"] == 16
    found = nib.load(folder / "out" / "saliency.nii.gz").get_fdata()
    assert np.corrcoef(found.ravel(), whole.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--window", "wide"], "96,96,64"),
        (["--window", "16,16"], "3 numbers of voxels"),
        (["--window", "16", "--margin", "8"], "do not cover"),
        (["--window", "16", "--method", "SmoothGradCAMPlusPlus"], "can be tiled"),
    ],
    ids=str,
)
def test_a_window_that_cannot_be_used_is_answered_in_a_sentence(run, scan, extra, says):
    _, words = scan
    code, _, err = run(*words, *extra)
    assert code == 2
    assert says in " ".join(err.split())
    assert "Traceback" not in err


def test_nothing_written_names_the_patient_or_a_path(run, scan):
    folder, words = scan
    marked = folder / "DOE_JANE_19700101"
    marked.mkdir()
    image = nib.load(folder / "scan.nii.gz")
    image.header["descrip"], image.header["aux_file"], image.header["db_name"] = b"DOE", b"DOE", b"DOE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE JANE"))
    nib.save(image, marked / "DOE_JANE.nii.gz")
    words[1] = str(marked / "DOE_JANE.nii.gz")
    code, out, err = run(*words, "--mask", folder / "labels.nii.gz", "--label", "2")
    assert code == 0, err
    written = list((folder / "out").iterdir())
    assert len(written) == 4
    for path in written:
        stored = path.read_bytes()
        for blob in (stored, gzip.decompress(stored) if path.suffix == ".gz" else b""):
            assert b"DOE" not in blob
            assert str(folder).encode() not in blob
    assert "DOE" not in out


def test_nothing_of_a_dicom_header_is_written(run, tmp_path):
    path = pydicom.data.get_testdata_file("CT_small.dcm", download=False)
    header = pydicom.dcmread(path)
    header.PatientName, header.PatientID, header.InstitutionName = "DOE^JANE", "DOE4711", "DOE HOSPITAL"
    header.AccessionNumber, header.StudyDate = "DOE0815", "19700101"
    header.save_as(tmp_path / "slice.dcm")
    plan = tmp_path / "recipe.yaml"
    plan.write_text(yaml.safe_dump({"name": "as is", "transforms": []}), "utf-8")
    code, out, err = run(*command(tmp_path / "slice.dcm", tmp_path, plan, 0, tmp_path / "out"))
    assert code == 0, err
    secrets = [b"DOE", b"19700101", header.SOPInstanceUID.encode(), header.StudyInstanceUID.encode()]
    for file in (tmp_path / "out").iterdir():
        stored = file.read_bytes()
        for blob in (stored, gzip.decompress(stored) if file.suffix == ".gz" else b""):
            assert not any(secret in blob for secret in secrets)
    assert "DOE" not in out


def test_an_empty_mask_is_undefined_in_json_too(run, scan):
    folder, words = scan
    assert run(*words)[0] == 0
    code, text, _ = run(
        "evaluate", folder / "out" / "saliency.nii.gz", folder / "labels.nii.gz", "--label", "9", "--json"
    )
    assert code == 0
    found = json.loads(text)
    assert found["mask_share_seen_by_model"] is None
    assert {(row["value"], row["reason"]) for row in found["scores"]} == {(None, "empty mask")}


def test_a_map_away_from_its_record_says_what_was_assumed(run, scan):
    folder, words = scan
    assert run(*words)[0] == 0
    alone = folder / "alone.nii.gz"
    (folder / "out" / "saliency.nii.gz").rename(alone)
    _, text, _ = run("evaluate", alone, folder / "labels.nii.gz", "--label", "2", "--json")
    assert any("no matching provenance.json" in notice for notice in json.loads(text)["notices"])


def test_results_never_replace_an_input_or_a_strangers_file(run, scan):
    folder, words = scan
    out = folder / "out"
    out.mkdir()
    scan_bytes = (folder / "scan.nii.gz").read_bytes()
    (out / "saliency.nii.gz").write_bytes(scan_bytes)
    code, _, err = run(words[0], out / "saliency.nii.gz", *words[2:])
    assert code == 2
    assert "would be replaced" in err
    code, _, err = run(*words)
    assert code == 2
    assert "saliency.nii.gz" in err
    assert (out / "saliency.nii.gz").read_bytes() == scan_bytes
    (out / "saliency.nii.gz").unlink()
    assert run(*words)[0] == 0
    assert run(*words)[0] == 0


def test_a_mask_of_another_place_is_refused_before_anything_is_computed(run, scan):
    folder, words = scan
    far = nib.load(folder / "labels.nii.gz")
    moved = far.affine.copy()
    moved[:3, 3] += 5000
    nib.save(nib.Nifti1Image(np.asarray(far.dataobj), moved), folder / "far.nii.gz")
    code, _, err = run(*words, "--mask", folder / "far.nii.gz", "--label", "2")
    assert code == 2
    assert "[M02]" in err
    code, _, err = run(*words, "--mask", folder / "far.nii.gz", "--label", "2", "--other-grid")
    assert code == 2
    assert "[M09]" in err
    assert "same patient" in err
    assert not (folder / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(run, scan):
    folder, words = scan
    here = {"--weights": "missing.pt", "--recipe": "missing.yaml"}
    unread = [here.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    plain = folder / "notafolder"
    plain.write_text("mine")
    foreign = folder / "foreign"
    foreign.mkdir()
    (foreign / "overlay.png").write_text("mine")
    for out, says in ((plain, "no folder"), (plain / "deeper", "no folder"), (foreign, "overlay.png")):
        unread[unread.index("-o") + 1] = str(out)
        code, _, err = run(*unread)
        assert code == 2
        assert "missing" not in err
        assert says in " ".join(err.split())
    assert [path.name for path in foreign.iterdir()] == ["overlay.png"]


def test_a_mask_of_unknown_pixel_size_is_refused_before_anything_is_computed(run, scan):
    folder, words = scan
    Image.fromarray(np.eye(24, dtype=np.uint8)).save(folder / "mask.png")
    code, _, err = run(*words, "--mask", folder / "mask.png")
    assert code == 2
    assert "--spacing" in err
    assert not (folder / "out").exists()


def test_a_map_that_cannot_be_scored_is_written_all_the_same(run, scan):
    """The mask lies in the image, and outside what the recipe leaves of it."""
    folder, words = scan
    crop = {"CenterSpatialCrop": {"roi_size": [12, 12, 12]}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"name": "crop", "transforms": [crop]}), "utf-8")
    labels = nib.load(folder / "labels.nii.gz")
    corner = np.zeros(labels.shape, np.uint8)
    corner[:2, :2, :2] = 1
    nib.save(nib.Nifti1Image(corner, labels.affine), folder / "corner.nii.gz")
    code, out, err = run(*words, "--mask", folder / "corner.nii.gz")
    assert code == 2
    assert "[M09]" in err
    assert "saliency.nii.gz" in out
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "overlay.png", "provenance.json", "saliency.nii.gz", "seen.nii.gz",
    ]  # fmt: skip


def test_evaluating_the_file_equals_evaluating_in_memory(run, scan):
    folder, words = scan
    mask = (folder / "labels.nii.gz", "--label", "2")
    run(*words, "--mask", *mask)
    code, out, _ = run("evaluate", folder / "out" / "saliency.nii.gz", *mask, "--json")
    assert code == 0
    assert json.loads(out) == json.loads((folder / "out" / "scores.json").read_text())


def test_a_degenerate_file_stays_degenerate(run, scan):
    folder, words = scan
    words[words.index("--target") + 1] = "0"
    mask = (folder / "labels.nii.gz", "--label", "2")
    code, out, _ = run(*words, "--mask", *mask)
    assert code == 0
    assert "degenerate: no positive evidence" in out
    _, text, _ = run("evaluate", folder / "out" / "saliency.nii.gz", *mask, "--json")
    for row in json.loads(text)["scores"]:
        assert row["value"] is None
        assert row["reason"] == "degenerate map: no positive evidence"
        assert row["chance"]["uniform"] is not None


def test_several_images_are_the_channels_of_one_case(run, scan, tmp_path):
    _, words = scan
    code, _, err = run(*words[:2], words[1], *words[2:])
    assert code == 2
    assert "1 input channels" in err
    assert "2 input channels" in err


def test_tables(run, scan):
    code, out, _ = run("methods", "--json")
    assert code == 0
    assert {row["method"]: row for row in json.loads(out)}["GradCAM"] == {
        "method": "GradCAM",
        "reads": "gradient",
        "cost": "1F + 1B",
        "parameters": {"layer": "auto", "relu": True},
        "summary": "map = relu(sum_k w_k A_k) with w_k the mean over positions of dy/dA_k (Selvaraju et al. 2017).",
    }
    names = [row["metric"] for row in json.loads(run("metrics", "--json")[1])]
    assert names == sorted(catalog.metrics())
    assert "pointing_game" in run("metrics")[1]
    _, words = scan
    options = [
        w for w in words[1:] if w not in {"--method", "GradCAM", "--layer", "act", "--target", "1", "--device", "cpu"}
    ]
    code, out, err = run("layers", *options[: options.index("-o")], "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert [row["layer"] for row in rows if row["recommended"]] == ["act"]
    assert rows[-1]["stride (mm)"] is not None


@pytest.mark.parametrize(
    ("replace", "says"),
    [
        ({"--method": "GradCamm"}, "GradCAM"),
        ({"--layer": "atc"}, "act"),
        ({"--layer": "act,down"}, "LayerCAMFusion"),
        ({"--target": "7"}, "0 to 1"),
        ({"--target": "left lung"}, "contrast:3/1,2"),
        ({"--model": "tests.truth:lookr"}, "looker"),
        ({"--model": "no.such.module:build"}, "no.such.module"),
        ({"--weights": "missing.pt"}, "missing.pt"),
        ({"--recipe": "missing.yaml"}, "missing.yaml"),
        ({"--factory-arg": "levels=2"}, "down.1.weight"),
        ({"--device": "cuda:99"}, "cuda:99"),
        ({"--seed": "99999999999999999999"}, "seed"),
        ({"--spacing": "0,1"}, "positive size"),
        ({"--spacing": "1"}, "ROW,COLUMN"),
        ({"scan": "missing.nii.gz"}, "[input 1]: no such file"),
    ],
    ids=str,
)
def test_one_sentence_and_exit_code_two_for_what_the_user_got_wrong(run, scan, replace, says):
    _, words = scan
    for option, value in replace.items():
        if option not in {"scan", *words}:
            words += [option, ""]
        words[1 if option == "scan" else words.index(option) + 1] = value
    code, _, err = run(*words)
    assert code == 2
    assert says in err
    assert "Traceback" not in err


def test_a_label_map_without_a_label_lists_what_it_holds(run, scan):
    folder, words = scan
    code, _, err = run(*words, "--mask", folder / "labels.nii.gz")
    assert code == 2
    assert "1, 2" in err
    assert not (folder / "out").exists()


def test_help_waits_for_nothing_heavy():
    code = "import medxai.cli.app, sys; print(sorted({'torch', 'monai', 'numpy', 'rich.table'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("3", ClassScore(3)),
        ("class:3", ClassScore(3)),
        ("group:1,4", GroupScore((1, 4))),
        ("contrast:3/1,2", ContrastScore(3, (1, 2))),
        ("margin:2", MarginScore(2)),
        ("signed:-", SignedScore(-1)),
    ],
)
def test_target_grammar(text, target):
    assert parse_target(text) == target


def test_region_target():
    found = parse_target("region:2")
    assert isinstance(found, RegionScore)
    assert found.index == 2


@pytest.mark.parametrize("text", ["", "x", "class:", "group:", "contrast:1", "signed:2", "what:3", "1.5"])
def test_what_is_no_target(text):
    with pytest.raises(TargetError, match="cannot be read"):
        parse_target(text)


def test_a_remark_of_the_library_is_one_line_on_stderr(run, scan):
    folder, words = scan
    path = words[words.index("--weights") + 1]
    torch.save({"state_dict": torch.load(path, weights_only=True), "epoch": 3}, folder / "checkpoint.pt")
    words[words.index("--weights") + 1] = str(folder / "checkpoint.pt")
    code, _, err = run(*words)
    assert code == 0
    note = "X05: The weights were read from the entry 'state_dict' of the checkpoint."
    assert f"medxai: note: {note}" in err
    record = json.loads((folder / "out" / "provenance.json").read_text())
    assert note in record["provenance"]["notices"]
