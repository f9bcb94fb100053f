"""One layer of a network as a place of maps: its name, how its output is laid out, and where its cells look."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from medxai.errors import LayerError
from medxai.shapes import Features

Order = Literal["channels first", "channels last", "tokens"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """Along each image axis, the centre of the receptive field of cell i lies at voxel start + jump * i."""

    start: tuple[float, ...]
    jump: tuple[float, ...]
    shape: tuple[int, ...]

    @classmethod
    def of_image(cls, shape: Sequence[int]) -> "Footprint":
        """The image's own voxels."""
        return cls((0.0,) * len(shape), (1.0,) * len(shape), tuple(shape))


@dataclass(frozen=True, slots=True)
class Layout:
    """How a layer's output holds a map.

    (b, c, *space), or (b, *space, c) as in Swin, or (b, prefix + cells, c) as in ViT, where the first `prefix` tokens
    (class token, registers) belong to no place and the others fill `grid` in row-major order.
    """

    order: Order = "channels first"
    prefix: int = 0
    grid: tuple[int, ...] = ()

    def read(self, output: Tensor) -> Features:
        """The map (b, c, *space) that the output holds; a view of it. Raises LayerError where it does not fit."""
        if self.order == "channels first":
            return output
        if self.order == "channels last":
            return output.movedim(-1, 1)
        if output.ndim != 3 or output.shape[1] != self.prefix + prod(self.grid):
            raise LayerError(
                "The tokens do not fill this grid.",
                expected=f"(batch, {self.prefix} + {' x '.join(map(str, self.grid))}, channels)",
                found=f"{tuple(output.shape)}",
            )
        return output[:, self.prefix :].movedim(-1, 1).reshape(len(output), -1, *self.grid)

    def write(self, features: Features, output: Tensor) -> Tensor:
        """An output that holds `features`; its prefix tokens are those of `output`, repeated for a larger batch."""
        if self.order == "channels first":
            return features
        if self.order == "channels last":
            return features.movedim(1, -1)
        prefix = output[:, : self.prefix].repeat(len(features) // len(output), 1, 1)
        return torch.cat([prefix, features.movedim(1, -1).flatten(1, -2)], 1)


CHANNELS_FIRST = Layout()


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that was looked up: `footprint` is None where nobody asked for it; the name "" is the image itself."""

    name: str
    layout: Layout = CHANNELS_FIRST
    footprint: Footprint | None = None
    notices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name
