"""Windows that cover an image, and what share of each cell every window holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from medxai.core.layer import Footprint
from medxai.errors import GeometryError, UsageError

Blend = Literal["constant", "gaussian"]


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows of `length` voxels along one axis, from each of `starts` on; `margin` voxels inside each edge that is no
    edge of the image count nothing.
    """

    starts: tuple[int, ...]
    length: int
    margin: int
    blend: Blend

    @classmethod
    def covering(cls, size: int, length: int, step: int, margin: int, blend: Blend) -> "Axis":
        """Windows every `step` voxels, the last at the end of the image."""
        last = size - length
        return cls((*range(0, last, step), last), length, margin, blend)

    def offsets(self, jump: float) -> list[int]:
        """The cell at which each window begins on the grid of the whole image. Raises GeometryError between cells."""
        found = [start / jump for start in self.starts]
        if any(abs(cell - round(cell)) > 1e-6 for cell in found):
            raise GeometryError(
                "The last window begins between two cells of the layer.",
                expected=f"an image and a window whose sizes differ by a multiple of {jump:g} voxels",
                found=f"a difference of {self.starts[-1]}",
                remedy=f"Pad the image in the recipe (DivisiblePad with k={jump:g}), or change the window.",
            )
        return [round(cell) for cell in found]

    def shares(self, start: float, jump: float, cells: int) -> list[Tensor]:
        """The weight of each window's cells; over all windows that hold a cell they add up to one."""
        place = start + jump * torch.arange(cells, dtype=torch.float64)
        offsets = self.offsets(jump)
        total = torch.zeros(offsets[-1] + cells, dtype=torch.float64)
        weights = []
        for number, offset in enumerate(offsets):
            weight = self._weight(place, number == 0, number == len(offsets) - 1)
            total[offset : offset + cells] += weight
            weights.append(weight)
        return [(w / total[o : o + cells]).nan_to_num(0).float() for o, w in zip(offsets, weights, strict=True)]

    def _weight(self, place: Tensor, first: bool, last: bool) -> Tensor:
        weight = torch.ones_like(place)
        if self.blend == "gaussian":  # the width that MONAI's sliding window uses
            weight = torch.exp(-0.5 * ((place - (self.length - 1) / 2) / (self.length / 8)).square())
        low, high = self.margin - 0.5, self.length - 0.5 - self.margin
        kept = torch.ones_like(place, dtype=torch.bool)
        kept &= torch.as_tensor(first) | (place >= low)
        kept &= torch.as_tensor(last) | (place <= high)
        return weight * kept


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """The cells of one window: their place in the whole (b, k, *cells), and their shares along each axis."""

    place: tuple[slice, ...]
    shares: tuple[Tensor, ...] = ()
    factor: float = 1.0

    def weighed(self, values: Tensor) -> Tensor:
        """The values (b, k, *cells) times their shares."""
        for axis, share in enumerate(self.shares, 2):
            values = values * share.to(values).reshape(-1, *[1] * (values.ndim - axis - 1))
        return values * self.factor


@dataclass(frozen=True, eq=False)
class Grid:
    """The cells of a layer or an output over the whole image, `window` of which one window holds."""

    axes: tuple[Axis, ...]
    window: Footprint

    @property
    def footprint(self) -> Footprint:
        """Where the cells look in the whole image."""
        grown = zip(self.window.shape, self.axes, self.window.jump, strict=True)
        shape = tuple(cells + axis.offsets(jump)[-1] for cells, axis, jump in grown)
        return Footprint(self.window.start, self.window.jump, shape)

    def within(self, values: Tensor, sizes: tuple[int, ...]) -> Tensor:
        """The cells (b, k, *cells) whose centres lie in an image of `sizes`."""
        for axis, (start, jump, size) in enumerate(zip(self.window.start, self.window.jump, sizes, strict=True), 2):
            values = values.narrow(axis, 0, min(values.shape[axis], int((size - 1 - start) // jump) + 1))
        return values

    def parts(self) -> Iterator[Part]:
        """The cells of each window, the last axis running fastest."""
        footprint = zip(self.window.start, self.window.jump, self.window.shape, strict=True)
        along = []
        for axis, (start, jump, cells) in zip(self.axes, footprint, strict=True):
            places = [slice(offset, offset + cells) for offset in axis.offsets(jump)]
            along.append(list(zip(places, axis.shares(start, jump, cells), strict=True)))
        for choice in product(*along):
            places, shares = zip(*choice, strict=True)
            yield Part((slice(None), slice(None), *places), shares)


@dataclass(frozen=True, eq=False, slots=True)
class Mean:
    """An output without place, of which every window holds an equal share."""

    count: int

    @property
    def footprint(self) -> Footprint:
        """No axis at all."""
        return Footprint((), (), ())

    def within(self, values: Tensor, _sizes: tuple[int, ...]) -> Tensor:
        """All of them."""
        return values

    def parts(self) -> Iterator[Part]:
        """The same for each window."""
        for _ in range(self.count):
            yield Part((slice(None), slice(None)), factor=1 / self.count)


def step_of(length: int, overlap: float, margin: int, jumps: Sequence[float]) -> int:
    """How far apart windows begin: a multiple of the network's coarsest jump where it fits, else of the layer's.

    `jumps` are the layer's and the coarsest. Raises UsageError where the margins leave nothing.
    """
    widest = min(int(length * (1 - overlap)), length - 2 * margin)
    for jump in reversed(jumps):
        step = round(widest // jump * jump)
        if step > 0:
            return step
    raise UsageError(
        "The windows do not cover the image.",
        expected=f"windows that advance by at least {jumps[0]:g} voxels, one cell of the layer",
        found=f"a window of {length} with margin {margin} and overlap {overlap}, which leaves {widest}",
        remedy="Take larger windows, or less margin or overlap.",
    )
