"""How far the map is from the finding, in millimetres of the patient; each refuses a pixel of unknown size.

A map that points nowhere has no distance. Left out of a mean it flatters a method that is often silent, so the diagonal
of what the model saw is stated beside the reason, as the penalty of those who must rank it.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from medxai.metrics.places import NO_REGION, Points, nearest, peak_voxels, region, world
from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, Undefined
from medxai.shapes import Map


def pointing_near(reading: Reading, tolerance_mm: float) -> float:
    """1 where the maximum lies within tolerance_mm of a voxel of the mask, else 0; tied maxima count by their share."""
    distance = _from_peak(reading)
    return distance if isinstance(distance, float) else float((distance <= tolerance_mm).mean())


def peak_distance(reading: Reading) -> float:
    """Distance in mm from the maximum to the nearest voxel centre of the mask, 0 inside; the mean over tied maxima."""
    distance = _from_peak(reading)
    return distance if isinstance(distance, float) else float(distance.mean())


def centroid_distance(reading: Reading) -> float:
    """Distance in mm between the centre of mass of [S]+ and that of the mask."""
    return _undefined(reading) or _apart(reading, reading.positive)


def core_centroid_distance(reading: Reading) -> float:
    """Distance in mm between the centre of mass of [S]+ where it reaches half its maximum and that of the mask."""
    undefined = _undefined(reading)
    return undefined or _apart(reading, torch.where(reading.values >= reading.peak / 2, reading.positive, 0.0))


def hd95_at_half_maximum(reading: Reading) -> float:
    """95th percentile in mm of the distances between the surfaces of the mask and of S >= max S / 2, the larger way.

    A surface is the voxels with a face outside; the percentile is of each way, as in MONAI.
    """
    ways = _surfaces(reading)
    return ways if isinstance(ways, float) else max(float(np.percentile(way, 95)) for way in ways)


def assd_at_half_maximum(reading: Reading) -> float:
    """Mean in mm of the distances between the surfaces of the mask and of S >= max S / 2, both ways together."""
    ways = _surfaces(reading)
    return ways if isinstance(ways, float) else float(np.concatenate(ways).mean())


def diagonal(reading: Reading) -> float:
    """Length in mm of the diagonal of the box of all seen voxels: the penalty for a map that points nowhere."""
    _ = reading.spacing_mm
    places = np.argwhere(reading.seen.numpy())
    if not len(places):
        return Undefined("the model saw none of this grid")
    corners = np.stack([places.min(0), places.max(0)])
    first, last = world(corners, reading.grid)
    return float(np.linalg.norm(last - first))


def _undefined(reading: Reading) -> Undefined | None:
    _ = reading.spacing_mm
    if reading.undefined:
        return Undefined(reading.undefined)
    return None if region(reading).any() else Undefined(NO_REGION)


def _from_peak(reading: Reading) -> Points | Undefined:
    return _undefined(reading) or nearest(peak_voxels(reading), region(reading), reading.grid)


def _surfaces(reading: Reading) -> tuple[Points, Points] | Undefined:
    return _undefined(reading) or reading.core_to_mask


def _apart(reading: Reading, mass: Map) -> float:
    ends = [world(middle, reading.grid)[0] for middle in (_centre(mass), _middle(reading.mask))]
    return float(np.linalg.norm(ends[0] - ends[1]))


def _middle(mask: torch.Tensor) -> Points:
    """The centre of mass of what is mostly empty."""
    flat = mask.numpy()
    places = np.argwhere(flat)
    return np.average(places, axis=0, weights=flat[tuple(places.T)].astype(np.float64))[None]


def _centre(weight: torch.Tensor) -> Points:
    last = weight.sum(tuple(range(weight.ndim - 1)), dtype=torch.float64)
    front = weight.sum(-1, dtype=torch.float64)
    along = [
        front.sum([a for a in range(front.ndim) if a != axis]) if front.ndim > 1 else front
        for axis in range(front.ndim)
    ]
    middles = [(line * torch.arange(len(line), dtype=torch.float64)).sum() / line.sum() for line in (*along, last)]
    return np.array([[float(middle) for middle in middles]])


_TOLERANCE_MM = 10.0
_NEARER = ("exact", "shifted", "random")
_LADDER = ("exact", "blurred", "shifted", "random")


def _row(fn: Callable[[Reading], float], claims: tuple[str, ...]) -> MetricSpec:
    far = (0.0, float("inf"))
    return MetricSpec(fn, "mask", 0.0, far, unit="mm", better="lower", claims=claims, penalty=diagonal)


METRICS = (
    MetricSpec(
        partial(pointing_near, tolerance_mm=_TOLERANCE_MM),
        "mask",
        best=1.0,
        span=(0.0, 1.0),
        unit="mm",
        claims=("exact", "random"),
        name="pointing_within_10mm",
    ),
    _row(peak_distance, ("exact", "random")),
    _row(centroid_distance, _NEARER),
    _row(core_centroid_distance, _NEARER),
    _row(hd95_at_half_maximum, _LADDER),
    _row(assd_at_half_maximum, _LADDER),
)
