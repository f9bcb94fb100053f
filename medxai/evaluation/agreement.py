"""How far two maps of one image agree: of two preprocessings, two trainings, two scans of one patient."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

import numpy as np
import torch

from medxai.core.geometry import Geometry
from medxai.core.saliency import Saliency
from medxai.errors import GeometryError
from medxai.metrics.similarity import spearman, ssim
from medxai.metrics.spec import reason
from medxai.shapes import Map, MaskArray


@dataclass(frozen=True)
class Agreement:
    """Rank correlation and SSIM over the voxels both models saw, and how far apart the two peaks lie.

    `peak_distance` is in mm, in pixels where their size is unknown; `shared` is the share of the grid's voxels that
    both saw. NaN where a map says nothing, for the `reason`.
    """

    spearman: float
    ssim: float
    peak_distance: float
    shared: float
    reason: str = ""


def agreement(first: Saliency, second: Saliency, grid: Geometry) -> Agreement:
    """The agreement of two saliency maps, each read once on `grid`.

    SSIM is taken over the bounding box of the shared voxels, zero where one of them was not seen.
    """
    if first.seen.units != second.seen.units:
        raise GeometryError("One map is in millimetres, the other is not.")
    a, b = first.on(grid), second.on(grid)
    both = ~(a.isnan() | b.isnan())
    share = float(both.float().mean())
    silent = next((f"degenerate map: {s.status.reason}" for s in (first, second) if not s.status.ok), "")
    if silent or not share:
        return Agreement(nan, nan, nan, share, silent or "the two models saw no voxel in common")
    ranks = spearman(a[both], b[both])
    alike = ssim(_boxed(a, both), _boxed(b, both))
    apart = float(np.linalg.norm(_peak(a, both, grid) - _peak(b, both, grid)))
    return Agreement(ranks, alike, apart, share, reason(ranks) or reason(alike))


def sensitivity_to(reference: Saliency, variants: Mapping[str, Saliency], grid: Geometry) -> Mapping[str, Agreement]:
    """The agreement of each variant (another spacing, window, crop, training) with the reference, by name."""
    return {name: agreement(reference, variant, grid) for name, variant in variants.items()}


def _boxed(values: Map, both: MaskArray) -> Map:
    places = both.nonzero()
    low, high = places.amin(0).tolist(), (places.amax(0) + 1).tolist()
    box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    return values.masked_fill(~both, 0)[box]


def _peak(values: Map, both: MaskArray, grid: Geometry) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    flat = values.masked_fill(~both, -torch.inf).flatten().argmax()
    index = np.array(np.unravel_index(int(flat), tuple(values.shape)), np.float64)
    return np.asarray(grid.world(np.pad(index, (0, 3 - len(index)))), np.float64)
