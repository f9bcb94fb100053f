"""Localisation and complexity as Quantus 0.6.0 answers on three maps without ties, and where its answer is wrong."""

from math import log

import numpy as np
import pytest
import torch

from medxai.metrics.complexity import entropy, gini
from medxai.metrics.localisation import auroc, mass_in_mask, pointing_game, precision_at_mask_size
from medxai.metrics.reading import Reading
from medxai.metrics.spec import reason

FROZEN = {
    "RelevanceMassAccuracy": (0.12090316, 0.24795243, 0.20241235),
    "RelevanceRankAccuracy": (0.045454545454545456, 0.20588235294117646, 0.21212121212121213),
    "AUC": (0.4077340569877883, 0.5841369334619093, 0.4717910815471791),
    "TopKIntersection": (0.05, 0.225, 0.25),
    "PointingGame": (0, 0, 1),
    "Complexity": (4.8552647, 4.88256, 4.876616),
    "Sparseness": (0.3264543898852682, 0.3046161288925751, 0.31409425847841577),
}
"""Its answers, abs and normalise off, k = 40."""


def readings():
    rng = np.random.default_rng(0)
    values = rng.random((3, 1, 12, 13)).astype(np.float32)
    masks = rng.random((3, 1, 12, 13)) > 0.8
    return [Reading(torch.from_numpy(v[0]), torch.from_numpy(m[0])) for v, m in zip(values, masks, strict=True)]


def test_what_quantus_has_right_is_ours():
    ours = {
        "RelevanceMassAccuracy": mass_in_mask,
        "RelevanceRankAccuracy": precision_at_mask_size,
        "AUC": auroc,
        "TopKIntersection": lambda reading: reading.ranking.top(40) / 40,
        "PointingGame": pointing_game,
        "Complexity": lambda reading: entropy(reading) * log(reading.values.numel()),
        "Sparseness": gini,
    }
    for name, frozen in FROZEN.items():
        close = 3e-5 if name == "Sparseness" else 3e-6  # it adds a small constant to the map first
        assert [ours[name](one) for one in readings()] == pytest.approx(frozen, rel=close), name


def test_quantus_calls_a_map_of_zeros_a_hit():
    """Every voxel is its maximum, so one of them lies in the mask; ours says nothing of a map without evidence."""
    one = readings()[0]
    assert bool((torch.zeros(12, 13) == 0)[one.mask].any())
    assert reason(pointing_game(one.of(torch.zeros(12, 13)))) == "no positive saliency"
    assert pointing_game(one.of(torch.ones(12, 13))) == pytest.approx(float(one.mask.float().mean()))


def test_quantus_calls_an_empty_mask_a_hit():
    """It writes NaN into an array of booleans, where NaN is true."""
    assert bool(np.array(np.nan).astype(bool))
    empty = readings()[1].against(torch.zeros(12, 13, dtype=torch.bool))
    assert reason(pointing_game(empty)) == "empty mask"


def test_quantus_counts_negative_evidence_in_the_relevance_mass():
    """Without abs its share is sum_M S / sum S, here beyond 1; ours is of the positive part, a share."""
    values, mask = torch.tensor([[2.0, -1.5, 0.0]]), torch.tensor([[True, False, False]])
    assert float(values[mask].sum() / values.sum()) == pytest.approx(4)
    assert mass_in_mask(Reading(values, mask)) == 1
