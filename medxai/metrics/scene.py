"""An image on the grid of the network's input, and which of its voxels may be perturbed."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from medxai.errors import GeometryError
from medxai.shapes import MaskArray

Image = Float[Tensor, "c *s"]


@dataclass(frozen=True, eq=False)
class Scene:
    """The `image`, its `field` of voxels that may be perturbed, mm per axis where known, and the seed of every draw."""

    image: Image
    field: MaskArray
    spacing: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        shape = tuple(self.image.shape[1:])
        if tuple(self.field.shape) != shape or (self.spacing is not None and len(self.spacing) != len(shape)):
            raise GeometryError(
                "Image, field and spacing belong to one grid.",
                expected=f"{shape}",
                found=f"a field of {tuple(self.field.shape)} and a spacing of {self.spacing}",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.field.shape)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """The spacing. Raises GeometryError where it is unknown."""
        if self.spacing is None:
            raise GeometryError(
                "Millimetres were asked of an image whose voxel size is unknown.",
                remedy="Measure in voxels, or load the image with its spacing.",
            )
        return self.spacing

    def generator(self, stream: int = 0) -> torch.Generator:
        """A fresh source of random numbers; each `stream` is another sequence, the same at every call."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + stream)
