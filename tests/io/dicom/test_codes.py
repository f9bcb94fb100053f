"""Codes are kept: those of the reader, those of the tests and those of docs/bad_inputs.md are the same."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medxai.errors import InputError
from medxai.io.codes import codes, notice
from medxai.io.dicom import folder as folders
from medxai.io.dicom import read, read_dicom
from tests.io.dicom import make
from tests.io.dicom.rows import ROWS
from tests.unprivileged import folder, locked

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


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def test_what_one_may_not_read_is_refused_by_name() -> None:
    with folder() as place:
        path = make.series()(place)
        file = sorted(path.iterdir())[2]
        assert read_dicom(path).geometry.shape[2] > 1
        with locked(file, 0o000), pytest.raises(InputError, match=rf"^\[D64\].*{file.name}.*Permission denied"):
            read_dicom(path)
        with locked(path, 0o000), pytest.raises(InputError, match=r"^\[D64\].*Permission denied"):
            read_dicom(path)
        assert read_dicom(path).geometry.shape[2] > 1


@pytest.mark.parametrize(("harm", "found"), [(Path.unlink, "No such file"), (_cut, "the file changed")])
def test_a_file_that_vanishes_or_shrinks_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None], found: str
) -> None:
    path = make.series()(tmp_path)
    file = sorted(path.iterdir())[2]
    headers = read.images

    def then_gone(where: Path, series: str | None) -> object:
        answer = headers(where, series)
        harm(file)
        return answer

    monkeypatch.setattr(read, "images", then_gone)
    with pytest.raises(InputError, match=rf"^\[D64\].*{file.name}.*{found}"):
        read_dicom(path)


def test_too_many_files_and_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make.series()(tmp_path)
    (path / "a" / "b" / "c").mkdir(parents=True)
    monkeypatch.setattr(folders, "MAX_FOLDERS_DEEP", 2)
    with pytest.raises(InputError, match=r"^\[D63\].*deeper than 2"):
        read_dicom(path)
    monkeypatch.setattr(folders, "MAX_FILES", 5)
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
