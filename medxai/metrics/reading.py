"""A map as read on a grid, held against the annotation there: what every metric of a map is a function of."""

from dataclasses import dataclass
from functools import cached_property
from math import inf, isinf

import numpy as np
import torch
from scipy.special import entr

from medxai.core.geometry import Geometry
from medxai.errors import GeometryError, MaskError
from medxai.metrics.places import apart, region, surface
from medxai.metrics.ranking import Array, Ranking, ranking
from medxai.shapes import Map, MaskArray


@dataclass(frozen=True, eq=False)
class Reading:
    """Signed `values`, NaN where the model never looked, and the annotation `mask` on the same grid.

    The mask is true or false, or a weight in [0, 1] per voxel: the share of annotators, or of the voxel. A metric of
    the map alone ignores it. Without a `geometry` nothing is known about millimetres.
    """

    values: Map
    mask: MaskArray | Map
    geometry: Geometry | None = None

    def __post_init__(self) -> None:
        if self.mask.shape != self.values.shape or (self.geometry and self.geometry.shape != tuple(self.values.shape)):
            raise GeometryError(
                "Map, mask and grid of a reading have one shape.",
                found=f"{tuple(self.values.shape)}, {tuple(self.mask.shape)} and {self.geometry}",
            )
        shares = self.mask.is_floating_point() and bool(((self.mask >= 0) & (self.mask <= 1)).all())
        if self.mask.dtype != torch.bool and not shares:
            raise MaskError(
                "A mask is true or false at every voxel, or holds a share.",
                expected="booleans, or floats in [0, 1]",
                found=f"{self.mask.dtype} from {self.mask.min()} to {self.mask.max()}",
            )

    @property
    def grid(self) -> Geometry:
        """The grid of map and mask. Raises GeometryError where none was given."""
        if self.geometry is None:
            raise GeometryError(
                "Millimetres were asked of a reading without a grid.", remedy="Give the geometry of the annotation."
            )
        return self.geometry

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Length of a step along each axis in mm. Raises GeometryError where the pixel size is unknown."""
        return self.grid.spacing_mm

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL, or area of a pixel in cm2. Raises GeometryError where its size is unknown."""
        return self.grid.voxel_size_mm / (1000 if self.values.ndim == 3 else 100)

    @cached_property
    def seen(self) -> MaskArray:
        """The voxels that the model looked at."""
        return ~self.values.isnan()

    @cached_property
    def undefined(self) -> str:
        """Why no alignment can be stated, or "" where it can; a map without a positive value points nowhere."""
        if not bool(self.mask.any()):
            return "empty mask"
        return self.silent

    @cached_property
    def unread(self) -> str:
        """Why there are no values to count, or ""."""
        values = self.ranking.values
        if not values.size:
            return "the model saw none of this grid"
        if isinf(values[-1]) or isinf(values[0]):
            return "infinite saliency"
        return ""

    @cached_property
    def silent(self) -> str:
        """Why the map says nothing, whatever the annotation, or ""."""
        return self.unread or ("" if self.peak > 0 else "no positive saliency")

    @cached_property
    def ranking(self) -> Ranking:
        """The voxels in the order of their values, sorted once for every metric that asks."""
        return ranking(self.values, self.mask)

    @cached_property
    def shares(self) -> Array:
        """|S| / sum |S| of the voxels that the model saw, in the order of `ranking`; empty where there is none."""
        p = np.abs(self.ranking.values, dtype=np.float64)
        total = p.sum()
        return p / total if 0 < total < inf else p[:0]

    @cached_property
    def effective_voxels(self) -> float:
        """How many voxels a uniform map of the same entropy fills, exp(-sum p ln p); 1 or more."""
        return float(np.exp(entr(self.shares).sum()))

    @cached_property
    def mask_size(self) -> float:
        """Voxels of the mask, seen or not; of a soft mask, the sum of its shares."""
        return self.ranking.total

    @cached_property
    def peak(self) -> float:
        """The highest value that the model saw."""
        return float(self.ranking.values[-1])

    @cached_property
    def positive(self) -> Map:
        """The positive part of the map, 0 where the model never looked."""
        return self.values.nan_to_num(nan=0.0).clamp(min=0)

    @cached_property
    def core_to_mask(self) -> tuple[Array, Array]:
        """Distances in mm of surface voxels: from S >= max S / 2 to the mask (half or more), and back.

        Of a defined reading of a mask that is a half somewhere. Raises GeometryError where the pixel size is unknown.
        """
        core = surface((self.values >= self.peak / 2).numpy())
        mask = surface(region(self))
        return apart(core, mask, self.grid), apart(mask, core, self.grid)

    def within(self, domain: MaskArray) -> "Reading":
        """The same question asked within `domain` alone: no voxel outside it counts, neither as map nor as mask."""
        values = self.values.masked_fill(~domain, torch.nan)
        return Reading(values, self.mask.masked_fill(~domain, 0), self.geometry)

    def against(self, mask: MaskArray | Map) -> "Reading":
        """The same map, held against another annotation; the order of its voxels is kept."""
        other = Reading(self.values, mask, self.geometry)
        other.__dict__["ranking"] = ranking(self.values, mask, self.ranking.values)
        return other

    def of(self, values: Map) -> "Reading":
        """Another map, held against the same annotation."""
        return Reading(values, self.mask, self.geometry)
