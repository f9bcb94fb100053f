"""The peaks of a map, in order, and which lesions hold them: recall by lesion, and the free-response curve (FROC).

The positive part is smoothed by a Gaussian of 2 mm within the seen voxels; a peak is a voxel that none of its
neighbours exceeds, and the higher of two peaks less than 10 mm apart stays. Voxels of one height that touch are one
peak, which lies in a lesion by the share of its voxels there: ties count in expectation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy import ndimage

from medxai.metrics.places import Indices, components, region, touching, world
from medxai.metrics.ranking import Array
from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, Undefined

RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
"""False peaks per case at which the free-response curve is read."""

_SIGMA_MM, _APART_MM, _MOST = 2.0, 10.0, 100
_LEVEL = 1e-5


@dataclass(frozen=True, eq=False)
class Peaks:
    """Up to 100 peaks, the highest first, their middle voxels, and share (peak, lesion) within each lesion.

    Heights are relative to the highest peak: the units of a map differ from case to case.
    """

    heights: Array
    voxels: Indices
    hits: Array

    @property
    def lesions(self) -> int:
        return int(self.hits.shape[1])

    @property
    def misses(self) -> Array:
        """How much of each peak lies in no lesion."""
        return np.asarray(1 - self.hits.sum(1))

    def found(self, count: int) -> float:
        """Expected number of lesions that hold one of the `count` highest peaks."""
        return float((1 - (1 - self.hits[:count]).prod(0)).sum())


def peaks(reading: Reading) -> Peaks:
    """The peaks of the map and the lesions of the mask: regions that touch at a face, an edge or a corner.

    Raises GeometryError where the pixel size is unknown.
    """
    smooth = _smooth(reading)
    highest = ndimage.maximum_filter(smooth, size=3)
    plateaus, number = components((smooth > 0) & (smooth >= highest * (1 - _LEVEL)), touching(smooth.ndim))
    places = np.flatnonzero(plateaus)
    owner = plateaus.ravel()[places] - 1
    sizes = np.bincount(owner, minlength=number)
    heights = np.zeros(number)
    np.maximum.at(heights, owner, smooth.ravel()[places])
    index = np.unravel_index(places, smooth.shape)
    middles = np.stack([np.bincount(owner, axis, number) / sizes for axis in index], 1)
    lesions, count = components(region(reading), touching(smooth.ndim))
    chosen = _apart(heights, world(middles, reading.grid))
    pairs = np.bincount(owner * (count + 1) + lesions.ravel()[places], minlength=number * (count + 1))
    pairs = pairs.reshape(number, count + 1)
    heights = heights[chosen] / heights.max(initial=np.finfo(float).tiny)
    return Peaks(heights, middles[chosen].round().astype(int), (pairs / sizes[:, None])[chosen, 1:])


def lesion_recall(reading: Reading) -> float:
    """Share of the lesions that hold one of as many of the highest peaks as there are lesions."""
    _ = reading.spacing_mm
    if reading.undefined:
        return Undefined(reading.undefined)
    found = peaks(reading)
    return found.found(found.lesions) / found.lesions if found.lesions else Undefined("no voxel of the mask is a half")


def froc(cases: Sequence[Peaks]) -> tuple[Array, Array]:
    """False peaks per case and lesion sensitivity of the pooled cases, as the threshold falls from the highest peak.

    A case without a lesion adds its false peaks; further peaks in a lesion that was found count neither way. Without
    any lesion the sensitivity is NaN.
    """
    cuts = np.unique(np.concatenate([np.zeros(0), *(case.heights for case in cases)]))[::-1]
    false, found = np.zeros(len(cuts) + 1), np.zeros(len(cuts) + 1)
    for case in cases:
        counts = np.searchsorted(-case.heights, -cuts, side="right")
        false[1:] += np.append(0.0, np.cumsum(case.misses))[counts]
        left = np.cumprod(np.concatenate([np.ones((1, case.lesions)), 1 - case.hits]), axis=0)
        found[1:] += (case.lesions - left.sum(1))[counts]
    lesions = sum(case.lesions for case in cases)
    return false / max(1, len(cases)), found / lesions if lesions else np.full(len(found), np.nan)


def froc_score(cases: Sequence[Peaks], rates: Sequence[float] = RATES) -> float:
    """Mean sensitivity at `rates` false peaks per case."""
    found = sensitivities(cases, rates)
    return Undefined("no case has a lesion") if np.isnan(found).any() else float(found.mean())


def sensitivities(cases: Sequence[Peaks], rates: Sequence[float] = RATES) -> Array:
    """Sensitivity at each of `rates` false peaks per case, the curve read linearly and flat beyond its end."""
    return np.interp(rates, *froc(cases)) if any(case.lesions for case in cases) else np.full(len(rates), np.nan)


def _smooth(reading: Reading) -> Array:
    sigma = [_SIGMA_MM / step for step in reading.spacing_mm]
    seen = reading.seen.numpy()
    values = reading.positive.numpy().astype(np.float32, copy=False)
    smooth = ndimage.gaussian_filter(values, sigma, mode="constant")
    smooth /= np.maximum(_weight(seen, sigma), 1e-6)
    smooth[~seen] = 0
    return np.asarray(smooth)


def _weight(seen: Array, sigma: Sequence[float]) -> Array:
    """How much of the Gaussian around each voxel lies on seen voxels; a product over axes where all are seen."""
    if not seen.all():
        return np.asarray(ndimage.gaussian_filter(seen.astype(np.float32), sigma, mode="constant"))
    lines = [
        ndimage.gaussian_filter1d(np.ones(n, np.float32), s, mode="constant")
        for n, s in zip(seen.shape, sigma, strict=True)
    ]
    return np.asarray(reduce(np.multiply.outer, lines))


def _apart(heights: Array, places: Array) -> Array:
    order = np.argsort(-heights, kind="stable")
    chosen: list[int] = []
    while len(order) and len(chosen) < _MOST:
        best = order[0]
        chosen.append(int(best))
        order = order[np.linalg.norm(places[order] - places[best], axis=1) >= _APART_MM]
        order = order[order != best]
    return np.array(chosen, int)


METRICS = (MetricSpec(lesion_recall, "mask", best=1.0, span=(0.0, 1.0), unit="mm", claims=("exact", "random")),)
