"""A case without a pixel size has no peaks: it is counted as such, and the others keep theirs."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest
import torch

from medxai.cli.evaluate_together import print_together
from medxai.core.geometry import Geometry
from medxai.evaluation.cohort import Scored
from medxai.evaluation.parts import parts_of
from medxai.evaluation.score import Evaluation
from medxai.evaluation.together import together
from medxai.metrics.reading import Reading

WHY = "the pixel size is unknown: not in froc and strata"


def case(number, units, strength=1.0):
    mask = torch.zeros(30, 30, dtype=torch.bool)
    mask[4:10, 4 + number : 10 + number] = True
    values = strength * mask + torch.rand(30, 30, generator=torch.Generator().manual_seed(number))
    reading = Reading(values, mask, Geometry(np.diag([2.0, 2.0, 1.0, 1.0]), (30, 30), units))
    return Scored("", f"{number}", f"{number}", Evaluation((), 36, 1.0), parts_of(reading))


def test_one_case_without_a_pixel_size_leaves_the_others_their_peaks(capsys):
    known, unknown = [case(number, "mm") for number in range(3)], case(3, "unknown")
    (alone,), (row,) = together(known), together([*known, unknown])
    assert row.froc == alone.froc == pytest.approx(1)
    assert row.as_dict()["strata"] == alone.as_dict()["strata"] != []
    assert row.as_dict()["sensitivities"] == alone.as_dict()["sensitivities"]
    assert list(row.as_dict()["sensitivities"]) == ["0.125", "0.25", "0.5", "1", "2", "4", "8"]
    assert row.froc == pytest.approx(sum(row.sensitivities.values()) / 7)
    assert (row.cases, dict(row.undefined), dict(alone.undefined)) == (4, {WHY: 1}, {})
    assert row.as_dict()["undefined"] == {WHY: 1}
    print_together([row])
    said = capsys.readouterr().out
    assert f"1 {WHY}" in said
    assert "recall" in said
    assert "1.00 1.00 1.00 1.00 1.00 1.00 1.00" in " ".join(said.split())


def test_a_case_whose_mask_has_no_box_is_counted_and_no_miss():
    whole = [case(number, "mm") for number in range(3)]
    faint = Reading(torch.rand(30, 30), torch.full((30, 30), 0.25), Geometry(np.diag([2.0, 2, 1, 1]), (30, 30)))
    (alone,), (row,) = together(whole), together([*whole, replace(case(3, "mm"), parts=parts_of(faint))])
    assert (row.box_accuracy, row.box_accuracy_v2) == (alone.box_accuracy, alone.box_accuracy_v2)
    why = "no voxel of the mask is one half or more: not in box accuracy"
    assert (row.cases, dict(row.undefined)) == (4, {why: 1})


def test_where_no_pixel_size_is_known_no_table_of_sizes_is_printed(capsys):
    (row,) = together([case(number, "unknown") for number in range(2)])
    assert isnan(row.froc)
    assert (row.strata, dict(row.undefined)) == ((), {WHY: 2})
    print_together([row])
    bare = capsys.readouterr().out
    assert "recall" not in bare
    assert bare.rstrip("\n").endswith("an upper bound")
    assert bare.count("\n\n") == 0


def test_a_silent_case_without_a_pixel_size_is_counted_for_both():
    silent = case(0, "unknown")
    silent = replace(silent, parts=replace(silent.parts, curves=None, reason="no positive saliency"))
    (row,) = together([silent, case(1, "mm")])
    assert (row.cases, dict(row.undefined)) == (1, {"no positive saliency": 1, WHY: 1})
