"""The result: a raw map on the grid where it was computed, what it is worth, and how it came to be."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import nan
from typing import Any

import torch

from medxai.core.geometry import Geometry
from medxai.core.pairing import refuse_other_units
from medxai.core.resample import inside, mean_on, read_on
from medxai.errors import GeometryError, InputError
from medxai.shapes import LayerMap, Map


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a map says anything: `ok`, or `degenerate` for a stated reason."""

    reason: str = ""

    @property
    def ok(self) -> bool:
        return not self.reason

    def __str__(self) -> str:
        return f"degenerate: {self.reason}" if self.reason else "ok"


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a map came to be: with the weights and voxels of these digests it can be computed again. Names no patient."""

    method: str
    parameters: Mapping[str, Any]
    model: str
    recipe_name: str
    recipe: tuple[Mapping[str, Any], ...]
    weights_sha256: str
    input_sha256: str
    seed: int
    device: str
    seconds: float
    versions: Mapping[str, str]
    target: str = ""
    layer: str = ""
    score: float = nan
    notices: tuple[str, ...] = ()
    details: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Saliency:
    """Raw, signed, float32 values of the cells in `geometry`; `seen` is the grid of voxels that the model saw.

    `source` is the grid of the image that was explained, where it is known. `amount` names what the values count, as
    "bits", where each is the content of its cell and not a height: read on another grid they become a density.

    Raises GeometryError for a map that is not float32 or of its grid's shape, InputError for one with NaN or infinity.
    """

    data: LayerMap
    geometry: Geometry
    seen: Geometry
    provenance: Provenance
    status: Status = Status()
    source: Geometry | None = None
    amount: str = ""

    def __post_init__(self) -> None:
        if tuple(self.data.shape) != self.geometry.shape or self.data.dtype != torch.float32:
            raise GeometryError(
                "Map and grid differ.",
                expected=f"float32 of shape {self.geometry.shape}",
                found=f"{self.data.dtype} of shape {tuple(self.data.shape)}",
            )
        if not bool(self.data.isfinite().all()):
            raise InputError(
                "A map holds numbers: between grids NaN and infinity spread to cells that have none.",
                found=f"{int((~self.data.isfinite()).sum())} of {self.data.numel()} NaN or infinite",
                remedy="What the model never looked at lies outside `seen`; a degenerate map is zero and has a status.",
            )

    def on(self, geometry: Geometry) -> Map:
        """The map at every voxel of `geometry`, interpolated linearly and once; NaN where the model never looked.

        Amounts are read per mm3 (per mm2 in 2D, per pixel where the spacing is unknown), as the mean over a voxel that
        is larger than the cells, such that their integral over what the model saw is the sum of the cells.
        Raises GeometryError where one grid is in millimetres and the pixel size of the other is unknown.
        """
        refuse_other_units(self.geometry, geometry)
        if self.amount:
            values = mean_on(self.data, self.geometry, geometry) * self._per_unit
        else:
            values = read_on(self.data, self.geometry, geometry)
        return values.masked_fill(~inside(self.seen, geometry), torch.nan)

    @property
    def _per_unit(self) -> float:
        """What turns interpolated contents of cells into a density whose integral over the seen grid is their sum."""
        interpolated = read_on(self.data.abs(), self.geometry, self.seen).double().sum() * self.seen.voxel_size
        total = self.data.abs().double().sum()
        return float(total / interpolated) if float(interpolated) else 0.0
