"""What goes to a log names inputs by number; a terminal, or --show-names, names them in full."""

import sys
from pathlib import Path

import pytest

from medxai.cli import app
from medxai.cli.names import withheld


def test_paths_files_of_folders_and_bare_names_become_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "DOE JANE"
    folder.mkdir()
    for name in ("DOE-1.dcm", "DOE-2.dcm"):
        (folder / name).write_bytes(b"")
    words = ["explain", str(folder), "--mask", "DOE.nii.gz", "--weights", "w.pt", "-o", "out"]
    text = f"[D20] {folder}/DOE-2.dcm: differs from that of DOE-1.dcm in {folder}; DOE.nii.gz, w.pt, out"
    assert withheld(text, words) == (
        "[D20] [input 1, file 2]: differs from that of [input 1, file 1] in [input 1]; [input 2], w.pt, out"
    )
    assert withheld("nothing to hide: --mask=x", ["methods"]) == "nothing to hide: --mask=x"
    assert withheld("abc.nii and xabc.nii", ["evaluate", "abc.nii"]) == "[input 1] and xabc.nii"


@pytest.mark.parametrize("shown", [True, False])
def test_an_error_outside_our_own_shows_its_text_only_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shown: bool
) -> None:
    def fail(words: list[str]) -> None:
        raise ZeroDivisionError("DOE JANE")

    monkeypatch.setattr(app, "app", fail)
    monkeypatch.setattr(sys, "argv", ["medxai", "methods", *(["--show-names"] if shown else [])])
    with pytest.raises(ZeroDivisionError if shown else SystemExit) as caught:
        app.main()
    if not shown:
        said = capsys.readouterr().err
        assert caught.value.code == 1
        assert "ZeroDivisionError in fail, test_names_withheld.py:" in said
        assert "DOE" not in said


@pytest.mark.parametrize("shown", [True, False])
def test_a_kept_list_of_files_names_them_by_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, shown: bool
) -> None:
    folder = tmp_path / "DOE JANE"
    folder.mkdir()
    for name in ("DOE-1.dcm", "DOE-2.dcm"):
        (folder / name).write_bytes(bytes(128) + b"DICM" + b"no image")
    words = ["medxai", "inspect", str(folder), *(["--show-names"] if shown else [])]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        app.main()
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert said.count("broken: ") == 2
    assert ("DOE-2.dcm" in said) == shown
    assert ("[input 1, file 2]" in said) != shown
