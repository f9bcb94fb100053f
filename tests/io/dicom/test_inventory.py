"""What `medxai inspect` lists: every series, what would be refused, whom it may name; never a pixel."""

import json
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medxai.cli.app import app
from medxai.errors import InputError
from medxai.io.dicom import pixels
from medxai.io.dicom.inventory import inspect
from medxai.io.options import ReadOptions
from tests.io.dicom import make


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A series, a series with gaps and a name that commands the terminal, an ultrasound, a broken file and a text."""
    make.series(make.every(BodyPartExamined="HEAD"))(tmp_path)
    (tmp_path / "gaps").mkdir()
    name = "\x1b[31mred</td><script>"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make.series(make.removed(1), make.every(SeriesDescription=name))(tmp_path / "gaps")
    make.single(make.every(Modality="US"), make.without("ImagePositionPatient", "ImageOrientationPatient"))(tmp_path)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "one.dcm").read_bytes()[:-9])
    (tmp_path / "readme.txt").write_text("hello")
    return tmp_path


def test_everything_is_listed_and_nothing_decoded(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_native", None)
    found = inspect(study)
    whole, gaps, ultrasound = sorted(found.series, key=lambda row: -row.files)
    assert (whole.shape, whole.files, whole.problems) == ((7, 5, 6), 6, ())
    assert whole.spacing == pytest.approx((0.7, 0.9, 2.5))
    assert whole.identity == ("2 identifying elements", "face")
    assert gaps.problems[0].startswith("[D20]")
    assert "\x1b" not in gaps.description
    assert ultrasound.kind == "film"
    assert ultrasound.identity[1] == "burned-in text: not excluded"
    assert found.broken[0].startswith("[D02] cut.dcm")
    assert found.others == 1
    assert "CANARY" not in repr(found)


def test_permissions_change_what_would_be_refused(study: Path) -> None:
    rows = inspect(study, ReadOptions(allow_gaps=True)).series
    assert all(not row.problems for row in rows)
    assert any("D20" in row.notices for row in rows)


def test_the_command_prints_a_table_or_json(study: Path) -> None:
    table = CliRunner().invoke(app, ["inspect", str(study)])
    assert table.exit_code == 0
    assert "[D20]" in table.output
    assert "broken: [D02]" in table.output
    assert "1 files that are no DICOM" in table.output
    assert "\x1b[31m" not in table.output
    answer = CliRunner().invoke(app, ["inspect", str(study), "--json", "--allow-gaps"])
    rows = json.loads(answer.output)["series"]
    assert [row["problems"] for row in rows] == [[], [], []]
    assert {row["key"] for row in rows} == {row.key for row in inspect(study).series}


def test_segments_and_regions_are_named(tmp_path: Path) -> None:
    assert inspect(make.BUNDLED / "liver_1frame.dcm").series[0].kind == "Segmentation: 1 Liver"
    assert "1 patient" in inspect(make.BUNDLED / "rtstruct.dcm").series[0].kind
    with pytest.raises(InputError, match="no such"):
        inspect(tmp_path / "absent")
