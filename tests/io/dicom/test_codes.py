"""Codes are kept: those of the reader, those of the tests and those of docs/bad_inputs.md are the same."""

import re
from pathlib import Path

import pytest

from medxai.errors import InputError
from medxai.io.codes import codes, notice
from medxai.io.dicom import folder, read_dicom
from tests.io.dicom import make
from tests.io.dicom.rows import ROWS

ROOT = Path(__file__).parents[3]
ALL = {f"D{n:02d}" for n in range(1, 66)}


def test_every_code_is_documented_once() -> None:
    rows = re.findall(r"^\| (D\d\d) \|", (ROOT / "docs" / "bad_inputs.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(ALL)
    source = "".join(path.read_text() for path in (ROOT / "medxai" / "io" / "dicom").glob("*.py"))
    assert set(re.findall(r'"(D\d\d)"', source)) <= ALL


def test_every_code_is_tested() -> None:
    elsewhere = {"D46", "D47", "D48", "D64"}  # test_masks.py, and below
    assert {row.code for row in ROWS} | elsewhere == ALL


def test_a_file_that_vanished_is_refused_by_name(tmp_path: Path) -> None:
    path = make.series()(tmp_path)
    (path / "gone.dcm").symlink_to(tmp_path / "unmounted" / "gone.dcm")
    with pytest.raises(InputError, match=r"^\[D64\].*gone\.dcm.*No such file"):
        read_dicom(path)


def test_too_many_files_and_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make.series()(tmp_path)
    (path / "a" / "b" / "c").mkdir(parents=True)
    monkeypatch.setattr(folder, "MAX_FOLDERS_DEEP", 2)
    with pytest.raises(InputError, match=r"^\[D63\].*deeper than 2"):
        read_dicom(path)
    monkeypatch.setattr(folder, "MAX_FILES", 5)
    with pytest.raises(InputError, match=r"^\[D63\].*more than 5 files"):
        read_dicom(path)


def test_a_code_leads_error_and_notice() -> None:
    error = InputError("x.dcm: no.", code="D20", found="a gap")
    assert (error.code, str(error)) == ("D20", "[D20] x.dcm: no. Found a gap.")
    assert InputError("x").code == ""
    assert codes([notice("D31", "inverted"), "no code: here", notice("D31", "again"), notice("N11", "mm")]) == (
        "D31",
        "N11",
    )
