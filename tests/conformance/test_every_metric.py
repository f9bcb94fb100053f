"""Laws that every metric of a map and a mask obeys; a new row in the catalogue is judged here unasked."""

from math import isnan, nan

import numpy as np
import pytest
import torch

from medxai import catalog
from medxai.core.geometry import Geometry
from medxai.metrics.chance import baselines
from medxai.metrics.reading import Reading
from medxai.metrics.spec import RUNGS

MASKED = sorted((m for m in catalog.metrics().values() if m.needs == "mask"), key=lambda m: m.name)

pytestmark = [
    pytest.mark.parametrize("metric", MASKED, ids=lambda m: m.name),
    pytest.mark.parametrize("shape", [(8, 9), (6, 8, 9)], ids=["2d", "3d"]),
]


def score(metric, saliency, mask):
    """As on a grid of 5 mm."""
    return metric.fn(Reading(saliency, mask, Geometry(np.diag([5.0, 5.0, 5.0, 1.0]), saliency.shape)))


def better(metric, value, than):
    """Whether `value` is better than another, in the direction of the metric."""
    return value < than if metric.better == "lower" else value > than


def prefers(metric, value, than):
    """Whether `value` is better, or no worse for a metric that does not claim to tell all maps apart."""
    return better(metric, value, than) if metric.claims == RUNGS else not better(metric, than, value)


def box(shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[2:4, 3:6] = True
    return mask


def test_perfect_map_scores_best(metric, shape):
    perfect = score(metric, box(shape).float(), box(shape))
    assert metric.best is None or perfect == pytest.approx(metric.best, abs=1e-12)
    assert prefers(metric, perfect, score(metric, torch.ones(shape), box(shape)))


@pytest.mark.parametrize("values", ["random", "zero", "nan"])
def test_empty_mask_is_undefined(metric, shape, values):
    saliency = {"random": torch.rand(shape), "zero": torch.zeros(shape), "nan": torch.full(shape, nan)}[values]
    assert isnan(score(metric, saliency, torch.zeros(shape, dtype=torch.bool)))


@pytest.mark.parametrize("value", [0.0, -1.0, nan])
def test_a_map_that_points_nowhere_is_undefined(metric, shape, value):
    assert isnan(score(metric, torch.full(shape, value), box(shape)))


def test_positive_scale_changes_nothing_and_range_is_kept(metric, shape):
    torch.manual_seed(0)
    for _ in range(5):
        saliency, mask = torch.randn(shape), torch.rand(shape) > 0.5
        value = score(metric, saliency, mask)
        assert value == pytest.approx(score(metric, 7 * saliency, mask), rel=1e-6)
        assert metric.span[0] <= value <= metric.span[1]


def test_outside_voxels_hold_nothing(metric, shape):
    torch.manual_seed(1)
    saliency, mask = torch.rand(shape), box(shape)
    wider = torch.cat([saliency, torch.full((3, *shape[1:]), nan)])
    assert score(metric, wider, torch.cat([mask, torch.zeros(3, *shape[1:], dtype=torch.bool)])) == score(
        metric, saliency, mask
    )


def test_mask_voxels_that_were_not_seen_are_missed(metric, shape):
    torch.manual_seed(3)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[: shape[0] // 2] = True
    saliency = torch.rand(shape)
    saliency[2:] = nan
    whole = torch.rand(shape)
    whole[:2] = saliency[:2]
    cut = mask.clone()
    cut[2:] = False
    assert not better(metric, score(metric, saliency, mask), score(metric, saliency, cut))


def test_ties_count_in_expectation(metric, shape):
    """Where the row says so; elsewhere tied voxels pass a threshold together, or a published protocol orders them."""
    if metric.ties != "expected":
        return
    torch.manual_seed(2)
    coarse, mask = (torch.rand(shape) * 3).round(), torch.rand(shape) > 0.7
    broken = np.array([score(metric, coarse + 1e-6 * torch.rand(shape), mask) for _ in range(100)])
    assert abs(score(metric, coarse, mask) - broken.mean()) <= 4 * broken.std() / 10 + 1e-5


def test_uniform_chance_is_the_volume_fraction(metric, shape):
    mask = box(shape)
    fraction = float(mask.float().mean())
    rows = baselines(torch.rand(shape))
    if metric.uniform is not None:
        assert score(metric, rows["uniform"], mask) == pytest.approx(metric.uniform(fraction), rel=1e-6)


def test_centre_chance_prefers_the_centre(metric, shape):
    rows = baselines(torch.rand(shape))
    middle, corner = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    middle[tuple(slice(n // 2 - 1, n // 2 + 1) for n in shape)] = True
    corner[tuple(slice(0, 2) for _ in shape)] = True
    assert prefers(metric, score(metric, rows["centre"], middle), score(metric, rows["centre"], corner))
