"""Entropy, Gini index and effective volume of maps whose values are known."""

from math import exp, log

import numpy as np
import pytest
import torch

from medxai.core.geometry import Geometry
from medxai.errors import GeometryError
from medxai.metrics.complexity import METRICS, effective_volume, effective_voxels, entropy, gini
from medxai.metrics.reading import Reading
from medxai.metrics.spec import reason
from tests.metrics.probes import SHAPES, draw

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def reading(values, spacing=()):
    grid = Geometry(np.diag([*spacing, *[1.0] * (4 - len(spacing))]), tuple(values.shape)) if spacing else None
    return Reading(values, torch.zeros(values.shape, dtype=torch.bool), grid)


@shapes
def test_a_uniform_map_is_as_complex_as_can_be(shape):
    flat = reading(torch.full(shape, 0.1), (1.0, 2.0, 4.0)[: len(shape)])
    n = flat.values.numel()
    assert entropy(flat) == pytest.approx(1)
    assert gini(flat) == pytest.approx(0, abs=1e-12)
    assert effective_voxels(flat) == pytest.approx(n)
    assert effective_volume(flat) == pytest.approx(n * (8 / 1000 if len(shape) == 3 else 2 / 100))


@shapes
def test_one_voxel_is_as_simple_as_can_be(shape):
    values = torch.zeros(shape)
    values[(2,) * len(shape)] = -3
    assert entropy(reading(values)) == pytest.approx(0)
    assert gini(reading(values)) == pytest.approx(1 - 1 / values.numel())
    assert effective_voxels(reading(values)) == pytest.approx(1)


def test_three_shares_by_hand():
    values = torch.tensor([[0.5, -0.25], [0.25, torch.nan]])
    nats = 0.5 * log(2) + 2 * 0.25 * log(4)
    assert entropy(reading(values)) == pytest.approx(nats / log(3))
    assert effective_voxels(reading(values)) == pytest.approx(exp(nats))
    assert gini(reading(values)) == pytest.approx((-2 * 0.25 + 0 + 2 * 0.5) / 3)


@shapes
def test_gini_is_half_the_relative_mean_difference(shape):
    values = draw(*shape)
    flat = values.flatten().double()
    expected = (flat[:, None] - flat[None]).abs().mean() / (2 * flat.mean())
    assert gini(reading(values)) == pytest.approx(float(expected))


@shapes
@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_scale_and_sign_change_nothing_and_silence_is_undefined(shape, metric):
    spacing = (1.0,) * len(shape)
    values = draw(*shape) - 0.5
    found = metric.fn(reading(values, spacing))
    assert metric.fn(reading(-7 * values, spacing)) == pytest.approx(found, rel=1e-5)
    assert metric.span[0] <= found <= metric.span[1]
    assert reason(metric.fn(reading(torch.zeros(shape), spacing))) == "zero map"
    assert reason(metric.fn(reading(torch.full(shape, torch.nan), spacing))) == "the model saw none of this grid"
    assert reason(metric.fn(reading(torch.full(shape, torch.inf), spacing))) == "infinite saliency"


def test_millilitres_are_refused_where_the_voxel_size_is_unknown():
    with pytest.raises(GeometryError, match="without a grid"):
        effective_volume(reading(draw(4, 5)))
