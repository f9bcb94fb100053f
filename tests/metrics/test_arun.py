"""Arun's four criteria on methods whose merit is known."""

from math import nan

import pytest
import torch

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from medxai.errors import UsageError
from medxai.metrics.arun import arun, precisions
from medxai.metrics.similarity import ssim
from medxai.metrics.trial import Trial
from tests.metrics.methods import Edges, Nothing
from tests.networks import Planted, planted_case

NAMES = ["utility", "weight randomisation", "repeatability", "reproducibility"]


def cases(ndim):
    found = [planted_case(ndim, seed) for seed in range(4)]
    return torch.cat([image for image, _ in found]), [mask for _, mask in found]


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_method_that_reads_the_network_meets_what_it_can(ndim):
    x, masks = cases(ndim)
    trial = Trial(GradCAM(layer="act"), Planted(ndim), x, ClassScore(1))
    utility, weights, repeated, other = arun(trial, precisions(trial.maps, masks), trial.maps * 3, trial.maps.flip(1))
    assert [c.name for c in (utility, weights, repeated, other)] == NAMES
    assert utility.met is True
    assert utility.value > 10 * utility.baseline
    assert utility.baseline == pytest.approx(sum(float(m.float().mean()) for m in masks) / 4)
    assert utility.n == 4
    assert repeated.value == pytest.approx(1)
    assert repeated.met is True
    assert other.value == pytest.approx(
        sum(ssim(a, b) for a, b in zip(trial.maps, trial.maps.flip(1), strict=True)) / 4
    )


def test_a_blind_method_fails_the_randomisation():
    x, _ = cases(2)
    found = arun(Trial(Edges(), Planted(2), x, ClassScore(1)))
    assert found[1].met is False
    assert found[1].value == pytest.approx(1)
    assert [c.met for c in found] == [None, False, None, None]


def test_what_cannot_be_compared_is_not_judged():
    x, _ = cases(2)
    assert [c.met for c in arun(Trial(Nothing(), Planted(2), x, ClassScore(1)), [(nan, 0.1)] * 4)] == [None] * 4
    with pytest.raises(UsageError, match="compare images"):
        arun(Trial(Edges(), Planted(2), x[:1], ClassScore(1)))
    with pytest.raises(UsageError, match="compare images"):
        arun(Trial(Edges(), Planted(2), x, ClassScore(1)), [(0.5, 0.1)] * 2)
