"""One row per lesion: its size, what the map gives it, and whether it was found; small ones are easily missed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medxai.metrics.peaks import peaks
from medxai.metrics.places import components, region, touching
from medxai.metrics.reading import Reading
from medxai.metrics.spec import Undefined
from medxai.metrics.thresholds import otsu

EDGES = (0.0, 0.1, 1.0, 10.0, float("inf"))
"""Sizes in mL (cm2 of a film) that bound the strata."""


@dataclass(frozen=True, slots=True)
class Lesion:
    """A region of the mask that touches at faces, edges or corners.

    `share` is its part of the map's positive mass and `lift` that over its part of the seen voxels (1 is chance);
    `found` is the expected hit by one of as many highest peaks as there are lesions; `covered` is the part of it above
    Otsu's threshold. `size` is in mL, in cm2 of a film.
    """

    voxels: int
    size: float
    share: float
    lift: float
    found: float
    covered: float


@dataclass(frozen=True, slots=True)
class Stratum:
    """Lesions of one range of sizes over all cases: how many, how many of them found, and the mean part covered."""

    smallest: float
    largest: float
    lesions: int
    found: float
    recall: float
    covered: float


def by_lesion(reading: Reading) -> tuple[Lesion, ...]:
    """The lesions of the mask, the largest first; none of an undefined reading is found, and its shares are undefined.

    Raises GeometryError where the pixel size is unknown.
    """
    unit = reading.voxel_ml
    parts, number = components(region(reading), touching(reading.values.ndim))
    sizes = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    if reading.undefined:
        nothing = Undefined(reading.undefined)
        return tuple(Lesion(int(sizes[n]), float(sizes[n] * unit), nothing, nothing, 0.0, 0.0) for n in order)
    places = np.flatnonzero(parts)
    owner, positive = parts.ravel()[places] - 1, reading.positive.numpy().ravel()[places]
    total = float(reading.ranking.heat(np.array([np.nextafter(0.0, 1.0)]))[1][0])
    share = np.bincount(owner, positive, number) / total
    covered = np.bincount(owner, positive >= otsu(reading), number) / sizes
    hits = peaks(reading).hits[:number]
    found = 1 - (1 - hits).prod(0)
    lift = share / (sizes / reading.ranking.values.size)
    columns = (sizes * unit, share, lift, found, covered)
    return tuple(Lesion(int(sizes[n]), *(float(column[n]) for column in columns)) for n in order)


def by_size(lesions: Sequence[Lesion], edges: Sequence[float] = EDGES) -> tuple[Stratum, ...]:
    """The lesions of all cases in strata of size, from each edge to below the next; an empty stratum has no recall."""
    strata = []
    for smallest, largest in pairwise(edges):
        own = [lesion for lesion in lesions if smallest <= lesion.size < largest]
        found = float(sum(lesion.found for lesion in own))
        none = Undefined("no lesion of this size")
        recall = found / len(own) if own else none
        covered = float(np.mean([lesion.covered for lesion in own])) if own else none
        strata.append(Stratum(smallest, largest, len(own), found, recall, covered))
    return tuple(strata)
