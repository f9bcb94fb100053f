"""What is asked of all cases together: voxels pooled over patients, and thresholds tuned on some for others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medxai.metrics.ranking import Array, Ranking
from medxai.metrics.spec import Undefined
from medxai.metrics.thresholds import Sweep

BINS = 1000


@dataclass(frozen=True, slots=True)
class BestF1:
    """The largest pooled Dice overlap over the thresholds, and precision, recall and fraction of the maximum there."""

    f1: float
    precision: float
    recall: float
    fraction: float


def pooled_best_f1(cases: Sequence[Sweep]) -> BestF1:
    """MaxF1 of SE3D: the voxels of all cases as one, each map cut at the same fraction of its own maximum.

    The threshold is chosen in view of the masks: an upper bound.
    """
    if not cases:
        none = Undefined("no case")
        return BestF1(none, none, none, none)
    area, caught = sum(case.area for case in cases), sum(case.caught for case in cases)
    size = sum(case.size for case in cases)
    pooled = Sweep(cases[0].fractions, np.asarray(area, float), np.asarray(caught, float), size)
    best = int(pooled.dice.argmax())
    precision = float(pooled.caught[best] / pooled.area[best])
    return BestF1(float(pooled.dice[best]), precision, float(pooled.caught[best] / size), float(pooled.fractions[best]))


@dataclass(frozen=True, eq=False)
class Histogram:
    """Voxels and mask by level of S / max S, in 1000 levels from below 0 to 1; addable over cases."""

    voxels: Array
    caught: Array
    size: float


def histogram(ranking: Ranking) -> Histogram:
    """The histogram of one case whose map has a positive value; what is not positive is one level, the lowest."""
    cuts = np.arange(1, BINS + 1) / BINS * float(ranking.values[-1])
    above = np.append(ranking.count(cuts), 0)
    caught = np.append(ranking.caught(cuts), 0.0)
    rest = (ranking.values.size - above[0], float(ranking.shares.sum()) - caught[0])
    return Histogram(np.append(rest[0], -np.diff(above)), np.append(rest[1], -np.diff(caught)), ranking.total)


def pooled_average_precision(cases: Sequence[Histogram]) -> float:
    """VxAP of SE3D: average precision of the voxels of all cases as one, each map relative to its own maximum.

    Voxels of one level in a thousand count as tied.
    """
    if not cases:
        return Undefined("no case")
    voxels = np.cumsum(np.sum([case.voxels for case in cases], axis=0)[::-1])
    gained = np.sum([case.caught for case in cases], axis=0)[::-1]
    caught, size = np.cumsum(gained), sum(case.size for case in cases)
    some = voxels > 0
    return float((gained[some] * caught[some] / voxels[some]).sum() / size) if size else Undefined("empty mask")


def tuned_fraction(cases: Sequence[Sweep], candidates: Sequence[float] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)) -> float:
    """The first of the candidate fractions with the largest mean IoU over these cases: tune on some, score others."""
    if not cases:
        return Undefined("no case")
    columns = [int(np.abs(cases[0].fractions - candidate).argmin()) for candidate in candidates]
    means = np.mean([case.iou[columns] for case in cases], axis=0)
    return candidates[int(means.argmax())]
