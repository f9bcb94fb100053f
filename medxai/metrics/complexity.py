"""How much of the image a map speaks of; says nothing of where, so never a score of quality alone."""

from math import inf, log

import numpy as np

from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, Undefined


def entropy(reading: Reading) -> float:
    """Entropy -sum p ln p of p = |S| / sum |S| as a share of its maximum ln n: 0 one voxel, 1 uniform.

    Bhatt et al. 2020, there not divided by ln n.
    """
    count = len(reading.shares)
    if count == 1:
        return Undefined("one voxel")
    return log(reading.effective_voxels) / log(count) if count else _nothing(reading)


def gini(reading: Reading) -> float:
    """Gini index of |S|, sum_i (2 i - n - 1) p_(i) / n in ascending order: 0 uniform, 1 - 1/n one voxel.

    Chalasani et al. 2020.
    """
    p = reading.shares
    if not len(p):
        return _nothing(reading)
    if reading.ranking.values[0] < 0:
        p = np.sort(p)
    return float(np.arange(1.0 - len(p), len(p), 2) @ p / len(p))


def effective_voxels(reading: Reading) -> float:
    """How many voxels a uniform map of the same entropy fills: exp(-sum p ln p)."""
    return reading.effective_voxels if len(reading.shares) else _nothing(reading)


def effective_volume(reading: Reading) -> float:
    """The effective voxels in mL, in the plane in cm2. Raises GeometryError where the voxel size is unknown."""
    return reading.effective_voxels * reading.voxel_ml if len(reading.shares) else _nothing(reading)


def _nothing(reading: Reading) -> Undefined:
    return Undefined(reading.unread or "zero map")


METRICS = (
    MetricSpec(entropy, needs="map", best=None, span=(0.0, 1.0), better="neither"),
    MetricSpec(gini, needs="map", best=None, span=(0.0, 1.0), better="neither"),
    MetricSpec(effective_voxels, needs="map", best=None, span=(1.0, inf), better="neither"),
    MetricSpec(effective_volume, needs="map", best=None, span=(0.0, inf), better="neither", unit="mL"),
)
