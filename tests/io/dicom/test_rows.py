"""Every row of docs/bad_inputs.md for DICOM: refused with its code, or accepted, right in mm, and told."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from medxai.errors import MedxaiError
from medxai.io.codes import codes
from medxai.io.read import read_volume
from tests.io.dicom.rows import ROWS, Row
from tests.io.phantoms import farthest_mm


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.code} {row.name}")
def test_the_row_holds(tmp_path: Path, row: Row) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom on what it is made to write
        path = row.build(tmp_path)
    if row.fate == "refused":
        with pytest.raises(MedxaiError) as refusal:
            read_volume(path, options=row.options)
        message = str(refusal.value)
        assert refusal.value.code == row.code, message
        assert message.startswith(f"[{row.code}]")
        assert path.name in message
        assert message.endswith(".")
        assert "CANARY" not in message
        return
    volume = read_volume(path, options=row.options)
    if row.fate == "told":
        assert row.code in codes(volume.notices), volume.notices
    assert "CANARY" not in repr(volume)
    if row.placed:
        assert farthest_mm(volume, np.array(row.grid)) < 1e-3
