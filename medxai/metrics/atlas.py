"""Where the attribution goes: the share of each labelled structure, and how dense it is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import numpy as np
from jaxtyping import Integer
from numpy.typing import NDArray
from torch import Tensor

from medxai.core.geometry import Geometry
from medxai.errors import GeometryError
from medxai.metrics.spec import Undefined
from medxai.shapes import Map

Labels = Integer[Tensor, "..."]


@dataclass(frozen=True, slots=True)
class Structure:
    """Share of the map's positive and of its absolute mass in one structure, its seen size, and its density.

    `lift` is the positive share over the share of the seen voxels: 1 is what a uniform map has. `size` is in mL, cm2 of
    a film, and `per_size` the positive share per that unit; both are NaN where the pixel size is unknown.
    """

    label: int
    name: str
    share: float
    absolute_share: float
    voxels: int
    lift: float
    size: float
    per_size: float


def by_structure(
    values: Map, labels: Labels, geometry: Geometry | None = None, names: Mapping[int, str] | None = None
) -> tuple[Structure, ...]:
    """One row per label that occurs, 0 (everything else) among them; voxels that the model never saw count nowhere.

    The shares sum to 1. A map without positive mass has no shares, nor has one with infinite values.
    """
    if labels.shape != values.shape:
        raise GeometryError(
            "Map and labels lie on one grid.", expected=f"{tuple(values.shape)}", found=f"{tuple(labels.shape)}"
        )
    flat, kinds = values.reshape(-1).numpy(), labels.reshape(-1).numpy()
    seen = ~np.isnan(flat)
    present, place = np.unique(kinds[seen], return_inverse=True)
    weight = flat[seen].astype(np.float64)
    voxels = np.bincount(place, minlength=len(present))
    positive, absolute = (
        np.bincount(place, part, len(present)).astype(np.float64) for part in (np.maximum(weight, 0), np.abs(weight))
    )
    unit = _unit(geometry, values.ndim)
    rows = []
    for n, label in enumerate(present):
        share = _part(positive, n, "no positive saliency")
        size = float(voxels[n] * unit)
        name = (names or {}).get(int(label), "elsewhere" if label == 0 else str(label))
        strength = _part(absolute, n, "no saliency")
        lift = _over(share, float(voxels[n] / voxels.sum()))
        rows.append(Structure(int(label), name, share, strength, int(voxels[n]), lift, size, _over(share, size)))
    return tuple(rows)


def _part(mass: NDArray[np.float64], n: int, otherwise: str) -> float:
    total = mass.sum()
    return float(mass[n] / total) if 0 < total < inf else Undefined("infinite saliency" if total else otherwise)


def _over(share: float, size: float) -> float:
    return share if isinstance(share, Undefined) else share / size


def _unit(geometry: Geometry | None, ndim: int) -> float:
    if geometry is None or geometry.units != "mm":
        return float("nan")
    return geometry.voxel_size_mm / (1000 if ndim == 3 else 100)
