"""How much of the image a map speaks of; says nothing of where, so never a score of quality alone."""

from math import log

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, Undefined
from medxai.shapes import Map

_NOTHING = Undefined("zero map")


def shares(values: Map) -> Float64[Tensor, " n"]:
    """p = |S| / sum |S| over the voxels that the model saw; empty where there is nothing to share."""
    p = values[~values.isnan()].abs().double()
    total = p.sum()
    return p / total if bool(total > 0) and bool(total.isfinite()) else p[:0]


def entropy(reading: Reading) -> float:
    """Entropy -sum p ln p of p = |S| / sum |S| as a share of its maximum ln n: 0 one voxel, 1 uniform.

    Bhatt et al. 2020, there not divided by ln n.
    """
    p = shares(reading.values)
    if len(p) == 1:
        return Undefined("one voxel")
    return log(effective_voxels(reading)) / log(len(p)) if len(p) else _NOTHING


def gini(reading: Reading) -> float:
    """Gini index of |S|, sum_i (2 i - n - 1) p_(i) / n in ascending order: 0 uniform, 1 - 1/n one voxel.

    Chalasani et al. 2020.
    """
    p = torch.from_numpy(np.sort(shares(reading.values).numpy()))
    if not len(p):
        return _NOTHING
    i = torch.arange(1, len(p) + 1, dtype=torch.float64)
    return float(((2 * i - len(p) - 1) * p).sum() / len(p))


def effective_voxels(reading: Reading) -> float:
    """How many voxels a uniform map of the same entropy fills: exp(-sum p ln p)."""
    p = shares(reading.values)
    return float(torch.exp(-torch.special.xlogy(p, p).sum())) if len(p) else _NOTHING


def effective_volume(reading: Reading) -> float:
    """The effective voxels in mL, in the plane in cm2. Raises GeometryError where the voxel size is unknown."""
    return effective_voxels(reading) * reading.voxel_ml if len(shares(reading.values)) else _NOTHING


METRICS = (
    MetricSpec(entropy, needs="map", best=None, span=(0.0, 1.0), better="neither"),
    MetricSpec(gini, needs="map", best=None, span=(0.0, 1.0), better="neither"),
    MetricSpec(effective_voxels, needs="map", best=None, span=(1.0, torch.inf), better="neither"),
    MetricSpec(effective_volume, needs="map", best=None, span=(0.0, torch.inf), better="neither", unit="mL"),
)
