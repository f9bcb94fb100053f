"""Overlap of the mask with what a threshold keeps of the map: fixed, percentile, Otsu and, as a bound, the best.

Thresholds cut the positive part of the map; what the model never saw is in no region but stays in the mask. All of
them read the shared ranking, so a threshold costs two look-ups. Voxels of one value pass a threshold together, save
where a number of voxels is asked for: there ties count in expectation.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from medxai.metrics.ranking import Array
from medxai.metrics.reading import Reading
from medxai.metrics.spec import RUNGS, MetricSpec, Undefined


@dataclass(frozen=True, slots=True)
class Overlap:
    """A region of `area` voxels, `caught` of them in a mask of `size`; soft masks count by their shares."""

    area: float
    caught: float
    size: float

    @property
    def iou(self) -> float:
        return self.caught / (self.area + self.size - self.caught)

    @property
    def dice(self) -> float:
        return 2 * self.caught / (self.area + self.size)

    @property
    def precision(self) -> float:
        return self.caught / self.area

    @property
    def recall(self) -> float:
        return self.caught / self.size


@dataclass(frozen=True, eq=False)
class Sweep:
    """Area and caught mask of the regions S >= t * max S, for fractions t in ascending order; addable over cases."""

    fractions: Array
    area: Array
    caught: Array
    size: float

    @property
    def iou(self) -> Array:
        return np.asarray(self.caught / (self.area + self.size - self.caught))

    @property
    def dice(self) -> Array:
        return np.asarray(2 * self.caught / (self.area + self.size))


def sweep(reading: Reading, steps: int = 100) -> Sweep:
    """The whole curve at t = 1/steps, 2/steps, ... 1. Of a reading that is undefined, no curve exists: ask first."""
    fractions = np.arange(1, steps + 1) / steps
    cuts = fractions * reading.peak
    found = reading.ranking
    return Sweep(fractions, found.count(cuts), found.caught(cuts), reading.mask_size)


def at_fraction(reading: Reading, fraction: float) -> Overlap:
    """The region S >= fraction * max S."""
    return _at(reading, fraction * reading.peak)


def at_top(reading: Reading, percent: float) -> Overlap:
    """The highest `percent` of the seen voxels, ties in expectation."""
    count = percent / 100 * reading.ranking.values.size
    return Overlap(count, reading.ranking.top(count), reading.mask_size)


def at_otsu(reading: Reading) -> Overlap:
    """The region above the threshold of Otsu."""
    return _at(reading, otsu(reading))


def otsu(reading: Reading) -> float:
    """The lowest value above Otsu's threshold of [S]+ over the seen voxels, in 256 bins from its least to its largest.

    A constant map has no two classes: all of it is the region. Otsu 1979; the criterion is that of scikit-image.
    """
    from skimage.filters import threshold_otsu

    values = reading.ranking.values
    low, high = max(float(values[0]), 0.0), reading.peak
    if low == high:
        return low
    edges = np.linspace(low, high, 257)
    counts = -np.diff(reading.ranking.count(edges), append=0)
    counts[-2] += counts[-1]
    counts[0] += values.size - counts[:-1].sum()
    level = threshold_otsu(hist=(counts[:-1], (edges[:-1] + edges[1:]) / 2))
    return float(np.nextafter(level, np.inf))


def _at(reading: Reading, cut: float) -> Overlap:
    cuts = np.array([cut])
    return Overlap(float(reading.ranking.count(cuts)[0]), float(reading.ranking.caught(cuts)[0]), reading.mask_size)


def iou_at_otsu(reading: Reading) -> float:
    """Intersection over union of the mask with the region above Otsu's threshold."""
    return Undefined(reading.undefined) if reading.undefined else at_otsu(reading).iou


def dice_at_otsu(reading: Reading) -> float:
    """Dice overlap of the mask with the region above Otsu's threshold."""
    return Undefined(reading.undefined) if reading.undefined else at_otsu(reading).dice


def precision_at_otsu(reading: Reading) -> float:
    """Share of the mask in the region above Otsu's threshold: intersection over attribution (M3d-CAM)."""
    return Undefined(reading.undefined) if reading.undefined else at_otsu(reading).precision


def mass_precision_at_otsu(reading: Reading) -> float:
    """Share of the mask in the saliency above Otsu's threshold: weighted intersection over attribution (M3d-CAM)."""
    if reading.undefined:
        return Undefined(reading.undefined)
    inside, everywhere = reading.ranking.heat(np.array([otsu(reading)]))
    return float(inside[0] / everywhere[0])


def iou_at_fraction(reading: Reading, fraction: float) -> float:
    """Intersection over union of the mask with the region S >= fraction * max S."""
    return Undefined(reading.undefined) if reading.undefined else at_fraction(reading, fraction).iou


def dice_at_fraction(reading: Reading, fraction: float) -> float:
    """Dice overlap of the mask with the region S >= fraction * max S."""
    return Undefined(reading.undefined) if reading.undefined else at_fraction(reading, fraction).dice


def iou_at_top(reading: Reading, percent: float) -> float:
    """Intersection over union of the mask with the highest percent of the seen voxels, ties in expectation."""
    return Undefined(reading.undefined) if reading.undefined else at_top(reading, percent).iou


def precision_at_top(reading: Reading, percent: float) -> float:
    """Share of the mask in the highest percent of the seen voxels, ties in expectation."""
    return Undefined(reading.undefined) if reading.undefined else at_top(reading, percent).precision


def best_iou(reading: Reading) -> float:
    """Largest intersection over union that any threshold of this map reaches: chosen in view of the mask."""
    return Undefined(reading.undefined) if reading.undefined else float(_every(reading).iou.max())


def best_dice(reading: Reading) -> float:
    """Largest Dice overlap that any threshold of this map reaches, its MaxF1: chosen in view of the mask."""
    return Undefined(reading.undefined) if reading.undefined else float(_every(reading).dice.max())


def _every(reading: Reading) -> Sweep:
    """The regions at every value that a mask voxel has; between two such values a region only gains what is outside."""
    found = reading.ranking
    cuts = np.append(np.unique(found.marked[found.marked > 0]), reading.peak)
    return Sweep(cuts / reading.peak, found.count(cuts), found.caught(cuts), reading.mask_size)


def _share(share: float) -> float:
    return share


def _dice(share: float) -> float:
    return 2 * share / (1 + share)


def _overlap(share: float, percent: float) -> float:
    part = percent / 100
    return part * share / (part + share - part * share)


_FRACTIONS = (0.2, 0.5)
_PERCENTS = (1, 5, 10)
METRICS = (
    MetricSpec(iou_at_otsu, "mask", 1.0, (0.0, 1.0), _share, claims=RUNGS, ties="together"),
    MetricSpec(dice_at_otsu, "mask", 1.0, (0.0, 1.0), _dice, claims=RUNGS, ties="together"),
    MetricSpec(precision_at_otsu, "mask", 1.0, (0.0, 1.0), _share, claims=RUNGS, ties="together"),
    MetricSpec(mass_precision_at_otsu, "mask", 1.0, (0.0, 1.0), _share, claims=RUNGS, ties="together"),
    *(
        MetricSpec(
            partial(iou_at_fraction, fraction=t),
            "mask",
            1.0,
            (0.0, 1.0),
            _share,
            claims=RUNGS,
            ties="together",
            name=f"iou_at_{t:.0%}_of_maximum",
        )
        for t in _FRACTIONS
    ),
    MetricSpec(
        partial(dice_at_fraction, fraction=0.5),
        "mask",
        1.0,
        (0.0, 1.0),
        _dice,
        claims=RUNGS,
        ties="together",
        name="dice_at_50%_of_maximum",
    ),
    *(
        MetricSpec(
            partial(iou_at_top, percent=p),
            "mask",
            None,
            (0.0, 1.0),
            partial(_overlap, percent=p),
            claims=("exact", "shifted", "inverted"),
            name=f"iou_at_top_{p}%",
        )
        for p in _PERCENTS
    ),
    MetricSpec(best_iou, "mask", 1.0, (0.0, 1.0), _share, claims=RUNGS, ties="together", bound=True),
    MetricSpec(best_dice, "mask", 1.0, (0.0, 1.0), _dice, claims=RUNGS, ties="together", bound=True),
)
