"""Values that are read from files: an image with its grid, an annotation with its grid, a case."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from medxai.core.geometry import Geometry
from medxai.errors import GeometryError, InputError, MaskError
from medxai.shapes import Channels, Map, MaskArray


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels (channel, *space) in the unit of the modality (HU for CT), on their own grid.

    `notices` lists every repair the reader made, in words that name no patient.
    """

    data: Channels
    geometry: Geometry
    modality: str = ""
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if tuple(self.data.shape[1:]) != self.geometry.shape:
            raise GeometryError(
                "Voxels and grid differ in size.",
                expected=f"data of shape (channels, {', '.join(map(str, self.geometry.shape))})",
                found=f"{tuple(self.data.shape)}",
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over voxels, their type and the grid; says nothing about names or paths."""
        voxels = self.data.detach().cpu().contiguous()
        result = hashlib.sha256(f"{voxels.dtype}{tuple(voxels.shape)}{self.geometry.units}".encode())
        result.update(self.geometry.affine.tobytes())
        result.update(voxels.reshape(-1).view(torch.uint8).numpy().data)
        return result.hexdigest()


@dataclass(frozen=True, eq=False)
class Mask:
    """One annotated region on the annotation's own grid; it is never resampled."""

    data: MaskArray
    geometry: Geometry
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse_other_size(self.data, self.geometry)
        if self.data.dtype != torch.bool:
            raise MaskError("A mask is true or false at every voxel.", found=f"{self.data.dtype}")


def refuse_other_size(data: MaskArray | Map, geometry: Geometry) -> None:
    """Raises GeometryError where an annotation and its grid differ in size."""
    if tuple(data.shape) != geometry.shape:
        raise GeometryError("Mask and grid differ in size.", expected=f"{geometry.shape}", found=f"{tuple(data.shape)}")


@dataclass(frozen=True, eq=False)
class Case:
    """One examination: its image (several acquisitions are channels of one grid) and what is known about it."""

    id: str
    image: Volume
    masks: Mapping[str, Mask] = field(default_factory=dict)
    labels: Mapping[str, float] = field(default_factory=dict)
    patient: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        if not self.id or any(c in self.id for c in "/\\\0") or self.id in {".", ".."}:
            raise InputError("A case id names files.", expected="text without path separators", found=repr(self.id))
