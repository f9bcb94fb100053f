"""What a saliency knows of itself comes back from disk as it was."""

import json
from math import inf, nan

import numpy as np
import pytest
import torch

from medxai import Case, Geometry, Volume, load_overlay, save_overlay
from medxai.core.saliency import Provenance, Saliency, Status
from medxai.errors import InputError

GRID = Geometry(np.eye(4), (4, 5, 6))
DETAILS = {"beta": nan, "gap": -inf, "bits": 1.5, "loss": (0.5, nan, inf), "none": ()}


@pytest.fixture
def saved(tmp_path):
    """An overlay whose details are partly no numbers."""
    told = Provenance("IBA", {}, "", "", (), "", "", 0, "", 0.0, {}, score=nan, details=DETAILS)
    saliency = Saliency(torch.ones(4, 5, 6), GRID, GRID, told, Status("noise scores above the image"))
    save_overlay(saliency, Case("a", Volume(torch.rand(1, 4, 5, 6), GRID), {}, {}), tmp_path)
    return tmp_path / "saliency.nii.gz"


def test_details_that_are_no_numbers_come_back_as_such(saved):
    found = load_overlay(saved).provenance
    assert found.details.keys() == DETAILS.keys()
    for name, value in DETAILS.items():
        np.testing.assert_array_equal(found.details[name], value)
        assert type(found.details[name]) is type(value)
    assert np.isnan(found.score)


def test_details_that_are_words_are_refused(saved):
    path = saved.parent / "provenance.json"
    record = json.loads(path.read_text("utf-8"))
    record["provenance"]["details"]["bits"] = "many"
    path.write_text(json.dumps(record), "utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        load_overlay(saved)
