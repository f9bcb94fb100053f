"""No output and no log holds anything of the patient: markers in every attribute, file and folder name, none found."""

import base64
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
import yaml
from PIL import Image, PngImagePlugin

from medxai.cli.app import main
from tests.end_to_end.canaries import NUMBER, TEXT, found, mark, marked_nifti_header, marked_series
from tests.truth import command

AFFINE = np.array([[-0.7, 0, 0, 40.0], [0, -0.9, 0, -30.0], [0, 0, 2.5, 11.0], [0, 0, 0, 1.0]])
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `medxai`: its exit code, and all that it said on both streams, of which no byte may be a marker."""

    def call(*words: object, expected: str = "no such text") -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medxai", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = "".join(capfd.readouterr())
        assert found(said.replace(expected, "").encode()) == [], said
        return int(ended.value.code or 0), said

    return call


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a marked patient: a series, a label map and a picture."""
    folder = tmp_path / f"{TEXT} JANE_{NUMBER}"
    folder.mkdir()
    marked_series(folder / f"{TEXT}SERIES", AFFINE)
    labels = np.zeros((7, 5, 6), np.uint8)
    labels[2:5, 1:4, 1:3] = 2
    image = nib.Nifti1Image(labels, AFFINE)
    image.header.set_xyzt_units("mm")
    marked_nifti_header(image.header)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{TEXT} JANE".encode()))
    nib.save(image, folder / f"{TEXT}labels.nii")
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", f"{TEXT} JANE", zip=True)
    exif = Image.Exif()
    exif[0x010E] = f"{TEXT} JANE"
    picture = Image.fromarray((np.arange(42, dtype=np.uint8) * 6).reshape(6, 7))
    picture.save(folder / f"{TEXT}.png", pnginfo=text, exif=exif)
    return folder


def words(home: Path, image: Path, out: Path) -> list[str]:
    plan = home.parent / "recipe.yaml"
    plan.write_text(yaml.safe_dump({"name": "as is", "transforms": []}), "utf-8")
    return list(command(image, home.parent, plan, 0, out))


def clean(out: Path) -> int:
    """How many files the folder holds, none of which holds a marker in its name or bytes."""
    files = [path for path in out.rglob("*") if path.is_file()]
    for path in files:
        assert found(path.name.encode()) == []
        assert found(path.read_bytes()) == [], path
    return len(files)


def test_explain_and_evaluate_leave_no_marker(run: Run, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    series, labels = home / f"{TEXT}SERIES", home / f"{TEXT}labels.nii"
    code, said = run(*words(home, series, out), "--mask", labels, "--label", 2)
    assert code == 0, said
    assert clean(out) == 4
    code, said = run("evaluate", out / "saliency.nii.gz", labels, "--label", 2, "--json")
    assert (code, json.loads(said)["mask_voxels"]) == (0, 18)
    for name in (f"{TEXT}labels.nii", f"{TEXT}.png"):
        code, said = run(*words(home, home / name, tmp_path / name[3:]))
        assert code == 0, said
        assert clean(tmp_path / name[3:]) == 3
    series_only = words(home, series, tmp_path / "layers")
    code, said = run("layers", *series_only[1:8], "--recipe", tmp_path / "recipe.yaml")
    assert code == 0, said


def test_inspect_shows_the_description_of_a_series_and_nothing_else(run: Run, home: Path) -> None:
    description = f"{TEXT}0008103E"  # which a person needs to choose a series
    code, said = run("inspect", home / f"{TEXT}SERIES", expected=description)
    assert code == 0, said
    assert "CT" in said


def test_a_table_of_cases_an_orthogonal_map_and_a_conversion_leave_no_marker(
    run: Run, home: Path, tmp_path: Path
) -> None:
    out, labels = tmp_path / "out", home / f"{TEXT}labels.nii"
    code, said = run(*words(home, home / f"{TEXT}SERIES", out), "--orthogonal")
    assert (code, clean(out)) == (0, 3), said
    table = home / f"{TEXT}cohort.csv"
    table.write_text(f"saliency,mask,label\n{out / 'saliency.nii.gz'},{labels},2\n")
    for flags in ((), ("--json",)):
        code, said = run("evaluate", table, *flags)
        assert code == 0, said
    for flags in ((), ("--soft",), ("--label", 99)):
        code, said = run("evaluate", out / "saliency.nii.gz", labels, *flags)
        assert code == (2 if "--soft" in flags else 0), said
    weights = home / f"{TEXT}net.pt"
    torch.save(torch.nn.Conv2d(1, 2, 3), weights)
    assert run("convert", weights, tmp_path / "w.safetensors")[0] == 2
    code, said = run("convert", weights, tmp_path / "w.safetensors", "--trust")
    assert code == 0, said
    assert found((tmp_path / "w.safetensors").read_bytes()) == []


def _without_a_slice(series: Path) -> None:
    next(p for p in sorted(series.iterdir()) if _height(p) == pytest.approx(16.0)).unlink()


def _height(path: Path) -> float:
    return float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])


def _cut(series: Path) -> None:
    path = sorted(series.iterdir())[2]
    content = path.read_bytes()
    path.write_bytes(content[: content.index(pydicom.dcmread(path).PixelData) + 20])


def _two_series(series: Path) -> None:
    _change(series, SeriesInstanceUID=f"2.25.{NUMBER}5")


def _change(series: Path, **values: object) -> None:
    path = sorted(series.iterdir())[3]
    dataset = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a missing slice": ("[D20]", _without_a_slice),
    "a cut file": ("[D02]", _cut),
    "two series": ("[D24]", _two_series),
    "another frame": ("[D26]", lambda s: _change(s, FrameOfReferenceUID=f"2.25.{NUMBER}6")),
    "no position": ("[D14]", lambda s: _change(s, ImagePositionPatient=None)),
    "another spacing": ("[D19]", lambda s: _change(s, PixelSpacing=[3, 3])),
    "random bytes": (
        "[D",
        lambda s: (s / f"{TEXT}x.dcm").write_bytes(bytes(128) + b"DICM" + TEXT.encode() * 40) or None,
    ),
    "a slope of 0": ("[D35]", lambda s: _change(s, RescaleSlope=0)),
}


@pytest.mark.parametrize(("code", "damage"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_refused_series_leaves_no_marker(
    run: Run, home: Path, tmp_path: Path, code: str, damage: Callable[[Path], None]
) -> None:
    damage(home / f"{TEXT}SERIES")
    status, said = run(*words(home, home / f"{TEXT}SERIES", tmp_path / "out"))
    assert status == 2, said
    assert code in said
    assert not (tmp_path / "out").exists()
    status, said = run("inspect", home / f"{TEXT}SERIES", expected=f"{TEXT}0008103E")
    assert status == 0, said


def test_refused_files_leave_no_marker(run: Run, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    labels = home / f"{TEXT}labels.nii"
    absent, cut, text = home / f"{TEXT}none.nii", home / f"{TEXT}cut.nii.gz", home / f"{TEXT}text.nii"
    cut.write_bytes(gzip.compress(labels.read_bytes())[:-30])
    text.write_bytes(f"<html>{TEXT}".encode() * 99)
    (home / f"{TEXT}.mha").write_text(f"Name = {TEXT}\nComment = {TEXT}\nNDims = 3\n{TEXT}\n")
    for image in (absent, cut, text, home / f"{TEXT}.mha"):
        assert run(*words(home, image, out))[0] == 2
    for mask in (absent, cut, home / f"{TEXT}.png"):
        assert run(*words(home, home / f"{TEXT}SERIES", out), f"--mask={mask}")[0] == 2
        assert run(*words(home, home / f"{TEXT}SERIES", out), "--mask", mask, "--label", 99)[0] == 2
    assert run("evaluate", labels, home / f"{TEXT}.png", "--label", 2)[0] == 2


def test_the_search_finds_what_is_there() -> None:
    for marked in (f"{TEXT}0001".encode(), f"x{NUMBER}".encode(), f"{TEXT}1".encode("utf-16-le")):
        assert found(b"..." + marked + b"...")
        assert found(gzip.compress(marked))
        for pad in (b"", b"a", b"ab"):
            assert found(b'"' + base64.b64encode(pad + marked + b"tail") + b'"')
        assert found(marked.hex().encode())
    assert found(b"zqx in lower case")
    assert found(b"nothing of a patient, 7 700 77") == []
    assert mark(pydicom.Dataset()) > 1800
