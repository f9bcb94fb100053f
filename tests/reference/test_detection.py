"""Lesion-level detection against the results that the PI-CAI evaluator publishes for its own ten cases, and MONAI."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics import compute_froc_curve_data, compute_froc_score

from medxai.core.geometry import Geometry
from medxai.metrics.detection import detection_auroc, detection_average_precision, detections
from medxai.metrics.lesions import by_lesion, by_size
from medxai.metrics.peaks import RATES, Peaks, froc, froc_score, lesion_recall, peaks, sensitivities
from medxai.metrics.reading import Reading


@pytest.fixture(scope="module")
def published(data_dir):
    folder = data_dir("evalref/picai_eval")
    expected = json.loads((folder / "output-expected" / "metrics-full-expected.json").read_text())
    cases, confidences = [], []
    for number in range(10):
        confidence, mask = (
            np.asarray(nib.load(folder / "test-maps" / f"case-{number}_{kind}.nii.gz").dataobj)
            for kind in ("detection_map", "label")
        )
        cases.append(detections(confidence.astype(float), mask > 0))
        confidences.append(float(confidence.max()))
    return expected, cases, confidences


def test_average_precision_and_auroc(published):
    expected, cases, confidences = published
    assert detection_average_precision(cases) == pytest.approx(expected["AP"], abs=1e-12)
    assert detection_auroc(cases, confidences) == pytest.approx(expected["auroc"], abs=1e-12)
    assert confidences == list(expected["case_pred"].values())
    assert sum(case.lesions for case in cases) == expected["num_lesions"]


def test_every_lesion_and_every_false_candidate(published):
    """Their overlap adds 1e-8 above and below the fraction line."""
    expected, cases, _ = published
    for case, rows in zip(cases, expected["lesion_results"].values(), strict=True):
        ours = [(1, f, o) for f, o in zip(case.found, case.overlap, strict=True)] + [(0, f, 0.0) for f in case.false]
        assert sorted(ours) == [pytest.approx(tuple(row), abs=1e-8) for row in sorted(map(tuple, rows))]


def random_cases(seed, number=12):
    """Peaks that lie wholly in one lesion or in none."""
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(number):
        count, lesions = rng.integers(1, 9), rng.integers(0, 4)
        hits = np.zeros((count, lesions))
        for row in hits:
            if lesions and rng.random() < 0.5:
                row[rng.integers(lesions)] = 1
        cases.append(Peaks(np.sort(rng.random(count))[::-1], np.zeros((count, 3), int), hits))
    return cases


@pytest.mark.parametrize("seed", range(5))
def test_free_response_agrees_with_monai(seed):
    """It takes one probability per lesion, 0 where missed, and leaves out its lowest threshold, here that 0."""
    cases = random_cases(seed)
    lesions = [np.where(c.hits.T > 0, c.heights, 0.0).max(1) for c in cases if c.lesions]
    false = np.concatenate([c.heights[c.misses > 0] for c in cases])
    found = np.concatenate(lesions)
    assert found.min() == 0
    theirs = compute_froc_curve_data(false, found, len(found), len(cases))
    assert froc_score(cases) == pytest.approx(compute_froc_score(*theirs, RATES), abs=1e-12)


def test_free_response_by_hand():
    """Two cases: 0.9 hits, 0.8 misses, 0.7 hits the same lesion again, 0.6 hits the second of two lesions."""
    first = Peaks(np.array([0.9, 0.7]), np.zeros((2, 2), int), np.array([[1.0, 0], [1, 0]]))
    second = Peaks(np.array([0.8, 0.6]), np.zeros((2, 2), int), np.array([[0.0], [1.0]]))
    false, found = froc([first, second])
    np.testing.assert_allclose(false, [0, 0, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(found, [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3])


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
def test_the_unit_of_one_map_does_not_move_the_free_response(unit):
    cases = []
    for step in range(4):
        values, grid = planted(((10, 10, 5), 2.0), ((30, 30, 20), 1.0), shape=(40, 40, 30))
        mask = torch.zeros_like(values, dtype=torch.bool)
        mask[9:12, 9:12, 4:7] = step > 0
        cases.append(peaks(Reading(values * (unit if step == 0 else 1.0), mask, grid)))
    assert sensitivities(cases).tolist() == pytest.approx([0.5, 1, 1, 1, 1, 1, 1])


def test_without_a_lesion_the_free_response_is_undefined():
    assert froc_score([]).reason == "no case has a lesion"
    assert np.isnan(sensitivities([])).all()


def planted(*spots, shape=(40, 40, 30), spacing=(1.0, 1.0, 2.0)):
    values = torch.zeros(shape)
    for place, height in spots:
        values[place] = height
    return values, Geometry(np.diag([*spacing, 1.0]), shape)


def test_peaks_are_ordered_apart_and_in_the_patient():
    """Two spots 8 voxels apart are 8 mm apart along one axis and 16 mm along the other: the lower one goes or stays."""
    near, grid = planted(((10, 10, 5), 1.0), ((18, 10, 5), 0.5))
    assert peaks(Reading(near, near > 0, grid)).voxels.tolist() == [[10, 10, 5]]
    far, grid = planted(((10, 10, 5), 1.0), ((10, 10, 13), 0.5))
    assert peaks(Reading(far, far > 0, grid)).voxels.tolist() == [[10, 10, 5], [10, 10, 13]]


def test_a_lesion_is_found_by_one_of_the_highest_peaks():
    values, grid = planted(((5, 5, 5), 3.0), ((25, 5, 5), 2.0), ((5, 25, 5), 1.0))
    mask = torch.zeros_like(values, dtype=torch.bool)
    mask[4:7, 4:7, 4:7] = mask[4:7, 24:27, 4:7] = True
    assert lesion_recall(Reading(values, mask, grid)) == 0.5
    values[25, 5, 5] = 0
    assert lesion_recall(Reading(values, mask, grid)) == 1.0


def test_a_plateau_is_in_a_lesion_by_its_share():
    values, grid = torch.ones(20, 20), Geometry(np.eye(4), (20, 20))
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[:5] = True
    assert lesion_recall(Reading(values, mask, grid)) == pytest.approx(0.25)


def test_lesions_one_by_one_and_by_size():
    """Of two lesions of 54 and 8 voxels of 2 mm3 the larger holds all of the map but a tenth, and the only peak."""
    values, grid = torch.zeros(40, 40, 30), Geometry(np.diag([1.0, 1.0, 2.0, 1.0]), (40, 40, 30))
    mask = torch.zeros(40, 40, 30, dtype=torch.bool)
    mask[4:7, 4:7, 4:10] = mask[30:32, 30:32, 20:22] = True
    values[4:7, 4:7, 4:7] = 1.0
    values[20, 20, 15] = 3.0
    large, small = by_lesion(Reading(values, mask, grid))
    assert (large.voxels, small.voxels) == (54, 8)
    assert (large.size, small.size) == pytest.approx((0.108, 0.016))
    assert (large.share, small.share) == pytest.approx((0.9, 0.0))
    assert large.lift == pytest.approx(0.9 / (54 / 48000))
    assert (large.found, small.found) == (1.0, 0.0)
    assert (large.covered, small.covered) == (0.5, 0.0)
    strata = by_size([large, small, small])
    assert [(s.lesions, s.found) for s in strata] == [(2, 0.0), (1, 1.0), (0, 0.0), (0, 0.0)]
    assert strata[1].recall == 1.0
    assert np.isnan([strata[2].recall, strata[3].covered]).all()
    dark = by_lesion(Reading(torch.zeros(40, 40, 30), mask, grid))
    assert [lesion.found for lesion in dark] == [0.0, 0.0]
    assert np.isnan([lesion.share for lesion in dark]).all()
