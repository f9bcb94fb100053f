"""An overlay whose writing was interrupted: every file whole, old or new, and the next run takes its place."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import medxai.overlay
from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency
from medxai.core.volume import Case, Volume
from medxai.errors import InputError
from medxai.io.nifti import read_nifti
from medxai.overlay import PROVENANCE, SALIENCY, UNFINISHED, load_overlay, save_overlay

SHAPE = (24, 20, 16)
FOREVER = """
import sys
from tests.end_to_end.test_interrupted import made
from medxai.overlay import save_overlay
print("ready", flush=True)
for n in range(10**9):
    save_overlay(*made(n % 7), sys.argv[1])
"""


def made(value: int) -> tuple[Saliency, Case]:
    grid = Geometry(np.diag([1.0, 1.0, 2.0, 1.0]), SHAPE)
    known = Provenance("M", {}, "", "", (), "", "", value, "cpu", 0.0, {})
    data = torch.full(SHAPE, float(value))
    data[0, 0, 0] = 9.0
    return Saliency(data, grid, grid, known), Case("a", Volume(torch.rand(1, *SHAPE), grid))


def test_an_interrupted_overlay_is_known_as_unfinished_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_overlay(*made(1), tmp_path)
    assert not (tmp_path / UNFINISHED).exists()
    with monkeypatch.context() as patched:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(medxai.overlay, "write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            save_overlay(*made(2), tmp_path)
    assert (tmp_path / UNFINISHED).exists()
    assert "no matching provenance.json" in load_overlay(tmp_path / SALIENCY).provenance.notices[0]
    save_overlay(*made(3), tmp_path)
    assert load_overlay(tmp_path / SALIENCY).provenance.seed == 3
    assert not (tmp_path / UNFINISHED).exists()


def test_a_record_that_was_tampered_with_is_refused_in_words(tmp_path: Path) -> None:
    save_overlay(*made(1), tmp_path)
    assert np.isnan(load_overlay(tmp_path / SALIENCY).provenance.score)
    record = json.loads((tmp_path / PROVENANCE).read_text())
    del record["provenance"]["method"]
    (tmp_path / PROVENANCE).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"provenance\.json beside it cannot be read"):
        load_overlay(tmp_path / SALIENCY)


@pytest.mark.slow
def test_a_killed_run_leaves_whole_files(tmp_path: Path) -> None:
    save_overlay(*made(0), tmp_path)
    for wait in (0.3, 0.7):
        words = [sys.executable, "-c", FOREVER, str(tmp_path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:  # noqa: S603
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            process.wait()
        values = read_nifti(tmp_path / SALIENCY).data.unique().tolist()
        assert len(values) == 2
        record = load_overlay(tmp_path / SALIENCY).provenance
        assert record.seed == values[0] or "no matching" in record.notices[0]
        assert (tmp_path / PROVENANCE).read_text().endswith("}\n")
    save_overlay(*made(5), tmp_path)
    assert load_overlay(tmp_path / SALIENCY).provenance.seed == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["overlay.png", "provenance.json", "saliency.nii.gz"]


def test_what_was_put_in_the_place_of_nan_is_told(tmp_path):
    """A map of which nothing was finite is no map, whatever takes the place of NaN."""
    values = np.full((4, 5, 6), np.nan, np.float32)
    for finite in (0, 7):
        values[0, 0, :finite] = 2.0
        nib.save(nib.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "foreign.nii.gz")
        found = load_overlay(tmp_path / "foreign.nii.gz", nan=1.0)
        assert any(f"N12: {120 - min(finite, 6)} voxels" in told for told in found.provenance.notices)
        assert found.status.ok == (finite > 0)
