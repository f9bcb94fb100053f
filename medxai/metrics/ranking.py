"""The order of the voxels: sorted once, then every rank metric is a few look-ups. Ties count in expectation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medxai.metrics.spec import Undefined
from medxai.shapes import Map, MaskArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Values of the seen voxels, ascending; those of the seen mask voxels, ascending, with their shares.

    `total` is the size of the whole mask: what the model never saw is part of it and is never caught.
    """

    values: Array
    marked: Array
    shares: Array
    total: float

    @cached_property
    def _caught(self) -> Array:
        """Mask caught by the values from each position of `marked` on; one longer, ending in 0."""
        return np.append(np.cumsum(self.shares[::-1])[::-1], 0.0)

    @cached_property
    def _warm(self) -> Array:
        """Sums of the values from each position of `marked` on, by their shares; one longer, ending in 0."""
        return np.append(np.cumsum((self.shares * self.marked)[::-1])[::-1], 0.0)

    def count(self, thresholds: Array) -> Array:
        """Number of seen voxels at or above each threshold."""
        return self.values.size - np.searchsorted(self.values, self._cast(thresholds), side="left")

    def caught(self, thresholds: Array) -> Array:
        """How much of the mask lies at or above each threshold."""
        return np.asarray(self._caught[np.searchsorted(self.marked, self._cast(thresholds), side="left")])

    def heat(self, thresholds: Array) -> tuple[Array, Array]:
        """Sums of the values at or above each threshold: in the mask, and everywhere."""
        cuts = self._cast(thresholds)
        tails = [self.values[first:].sum(dtype=np.float64) for first in np.searchsorted(self.values, cuts)]
        return np.asarray(self._warm[np.searchsorted(self.marked, cuts)]), np.array(tails)

    def _cast(self, thresholds: Array) -> Array:
        """The least number of the type of the values that is not below each threshold."""
        cast = thresholds.astype(self.values.dtype)
        up = np.nextafter(cast, np.array(np.inf, cast.dtype))
        return np.where(cast.astype(np.float64) < thresholds, up, cast)

    def top(self, count: float) -> float:
        """Expected mask among the `count` highest voxels, ties broken at random.

        Values above the count-th count fully; the tied block at it contributes its free slots times its share of mask.
        """
        size = self.values.size
        edge = self.values[size - min(max(int(np.ceil(count)), 1), size)]
        higher = size - np.searchsorted(self.values, edge, side="right")
        tied = size - np.searchsorted(self.values, edge, side="left") - higher
        above = self._caught[np.searchsorted(self.marked, edge, side="right")]
        level = self._caught[np.searchsorted(self.marked, edge, side="left")] - above
        return float(above + (min(count, size) - higher) * level / tied)

    def auroc(self) -> float:
        """Probability that a random mask voxel outranks a random other one, ties counting half (Mann-Whitney).

        A soft mask voxel is in the mask by its share and beside it by the rest. A mask voxel that was not seen loses.
        """
        others = self.values.size - float(self.shares.sum())
        if others <= 0:
            return Undefined("the mask covers everything that the model saw")
        low = np.searchsorted(self.values, self.marked, side="left")
        high = np.searchsorted(self.values, self.marked, side="right")
        first = np.searchsorted(self.marked, self.marked, side="left")
        last = np.searchsorted(self.marked, self.marked, side="right")
        below = low - (self._caught[0] - self._caught[first])
        beside = (high - low) - (self._caught[first] - self._caught[last])
        return float(np.sum(self.shares * (below + beside / 2)) / (others * self.total))

    def average_precision(self) -> float:
        """Sum over thresholds of precision times the recall gained there; tied voxels pass a threshold together.

        No interpolation. Recall is of the whole mask, seen or not.
        """
        first = np.flatnonzero(np.diff(self.marked, prepend=-np.inf))
        caught = self._caught[first]
        gained = caught - np.append(caught[1:], 0.0)
        return float(np.sum(gained * caught / self.count(self.marked[first])) / self.total)


def ranking(values: Map, mask: MaskArray | Map, ordered: Array | None = None) -> Ranking:
    """The ranking of the voxels of `values` that are not NaN; `mask` is true or false, or a share in [0, 1].

    `ordered` are these values in ascending order, where somebody has sorted them already.
    """
    flat, share = values.reshape(-1).numpy(), mask.reshape(-1).numpy()
    places = np.flatnonzero(share)
    marked, weight = flat[places], share[places].astype(np.float64)
    seen = ~np.isnan(marked)
    order = np.argsort(marked[seen])
    if ordered is None:
        ordered = np.sort(flat)
        ordered = ordered[: np.searchsorted(ordered, np.nan)]
    return Ranking(ordered, marked[seen][order], weight[seen][order], float(weight.sum()))
