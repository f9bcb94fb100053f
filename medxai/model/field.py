"""Which voxels of the image the cells of a tensor look at, and how windows, unions and views change that."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Factor = tuple[int, "Axis | None"]
Dim = tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class Footprint:
    """Along each image axis, the centre of the receptive field of cell i lies at voxel start + jump * i."""

    start: tuple[float, ...]
    jump: tuple[float, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """Cell i sees the voxels lo + jump * i to hi + jump * i of image axis `image_axis`."""

    image_axis: int
    jump: float
    lo: float
    hi: float

    @property
    def centre(self) -> float:
        return (self.lo + self.hi) / 2

    def window(self, stride: int | float, first: int | float, last: int | float) -> "Axis":
        """The axis of cells that read the cells stride * i + first to stride * i + last of this one."""
        ends = first * self.jump, last * self.jump
        return Axis(self.image_axis, self.jump * stride, self.lo + min(ends), self.hi + max(ends))


@dataclass(frozen=True, slots=True)
class Field:
    """For each dimension of a tensor, the factors of its size and the image axis that each follows.

    A flattened dimension keeps its factors, so that a later view can restore them. `lost` names the first operation
    after which some image axis could not be followed any more.
    """

    dims: tuple[Dim, ...]
    lost: str = ""

    @classmethod
    def image(cls, shape: Sequence[int]) -> "Field":
        space = tuple(((n, Axis(i, 1.0, 0.0, 0.0)),) for i, n in enumerate(shape[2:]))
        return cls((blank(shape[0]), blank(shape[1]), *space))

    @classmethod
    def unknown(cls, shape: Sequence[int], lost: str) -> "Field":
        return cls(tuple(blank(n) for n in shape), lost)

    def axis(self, dim: int) -> Axis | None:
        return axis_of(self.dims[dim])

    def footprint(self, rank: int) -> Footprint | None:
        """Where the cells of a tensor (batch, channel, *space) lie, if its axes are the image's axes in their order."""
        axes = [axis_of(dim) for dim in self.dims[2:]]
        known = [axis for axis in axes if axis is not None]
        if len(known) != len(axes) or [axis.image_axis for axis in known] != list(range(rank)):
            return None
        shape = tuple(size(dim) for dim in self.dims[2:])
        return Footprint(tuple(axis.centre for axis in known), tuple(axis.jump for axis in known), shape)


def blank(n: int) -> Dim:
    """A dimension that follows no image axis."""
    return ((n, None),)


def size(dim: Dim) -> int:
    """How many cells a dimension has."""
    return math.prod(n for n, _ in dim)


def axis_of(dim: Dim) -> Axis | None:
    """The one image axis of a dimension; trailing blank factors are sub-cells, as in a pixel shuffle."""
    factors = [factor for factor in dim if factor[0] != 1 or factor[1] is not None] or list(dim)
    axis = factors[0][1] if factors else None
    if axis is None or any(other is not None for _, other in factors[1:]):
        return None
    inner = math.prod(n for n, _ in factors[1:])
    middle = (1 - inner) / (2 * inner)
    return axis.window(1 / inner, middle, middle)


def along(n: int, axis: Axis | None) -> Dim:
    """A dimension of n cells that follows `axis`."""
    return ((n, axis),)


def unite(dims: Sequence[Dim]) -> Dim:
    """The dimension whose cells see what the same cells of all of `dims` see; what follows no axis has no say."""
    known = [dim for dim in dims if any(axis for _, axis in dim)]
    if not known:
        return blank(size(dims[0]))
    sizes = [tuple(n for n, _ in dim) for dim in known]
    if any(other != sizes[0] for other in sizes):
        return along(size(dims[0]), _hull([axis_of(dim) for dim in known], size(dims[0])))
    return tuple((n, _hull([dim[i][1] for dim in known], n)) for i, n in enumerate(sizes[0]))


def _hull(axes: Sequence[Axis | None], n: int) -> Axis | None:
    known = [axis for axis in axes if axis is not None]
    if not known:
        return None
    first = known[0]
    if any(a.image_axis != first.image_axis or abs(a.jump - first.jump) > 0.1 * abs(first.jump) for a in known):
        return None
    lo, hi = min(a.lo for a in known), max(a.hi for a in known)
    if n == 1:
        return Axis(first.image_axis, first.jump, lo, hi)
    ends = [(a.lo + a.jump * (n - 1), a.hi + a.jump * (n - 1)) for a in known]
    middle = (min(end[0] for end in ends) + max(end[1] for end in ends)) / 2
    return Axis(first.image_axis, (middle - (lo + hi) / 2) / (n - 1), lo, hi)


def regroup(dims: Sequence[Dim], shape: Sequence[int]) -> tuple[Dim, ...]:
    """The dimensions of a contiguous tensor viewed as `shape`; an axis that is cut in two is lost."""
    left = [factor for dim in dims for factor in dim]
    result = []
    for n in shape:
        dim: list[Factor] = []
        while left and left[0][0] == 1 and n > 1:
            left.pop(0)
        rest = n
        while rest > 1 and left:
            head, axis = left.pop(0)
            if rest % head and head % rest:
                return tuple(blank(n) for n in shape)
            taken = min(head, rest)
            dim.append((taken, axis if taken == head else None))
            if taken < head:
                left.insert(0, (head // taken, None))
            rest //= taken
        if n == 1 and left and left[0][0] == 1:
            dim.append(left.pop(0))
        result.append(tuple(dim) or blank(n))
    return tuple(result)
