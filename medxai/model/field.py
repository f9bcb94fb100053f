"""Which voxels of the image the cells of a tensor look at, and how windows, unions and views change that."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medxai.core.layer import CHANNELS_FIRST, Footprint, Layout

Factor = tuple[int, "Axis | Lost | Prefixed | Inner | None"]
Dim = tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """Cell i sees the voxels lo + jump * i to hi + jump * i of image axis `image_axis`.

    `doubt` names the operation of an attention branch that was joined: what that branch sees is not counted.
    """

    image_axis: int
    jump: float
    lo: float
    hi: float
    doubt: str = ""

    @property
    def centre(self) -> float:
        return (self.lo + self.hi) / 2

    def window(self, stride: int | float, first: int | float, last: int | float) -> "Axis":
        """The axis of cells that read the cells stride * i + first to stride * i + last of this one."""
        ends = first * self.jump, last * self.jump
        return Axis(self.image_axis, self.jump * stride, self.lo + min(ends), self.hi + max(ends), self.doubt)


@dataclass(frozen=True, slots=True)
class Lost:
    """What the cells see is unknown since `operation`; `attends` where that mixed all cells by attention."""

    operation: str
    attends: bool = False


@dataclass(frozen=True, slots=True)
class Prefixed:
    """The first `count` cells follow nothing, as class tokens do; the others are those of `rest`, and none is lost."""

    count: int
    rest: Dim


@dataclass(frozen=True, slots=True)
class Inner:
    """The inner factor of an axis that a view has cut in two: which of the `axis`'s cells inside one outer cell."""

    axis: Axis


Origin = Axis | Lost | Prefixed | Inner


@dataclass(frozen=True, slots=True)
class Field:
    """For each dimension of a tensor, the factors of its size and what each follows.

    That is an image axis; or nothing (channels, a constant, a summary of the whole image); or it is lost. A flattened
    dimension keeps its factors, so that a later view can restore them.
    """

    dims: tuple[Dim, ...]

    @classmethod
    def image(cls, shape: Sequence[int]) -> "Field":
        space = tuple(along(n, Axis(i, 1.0, 0.0, 0.0)) for i, n in enumerate(shape[2:]))
        return cls((blank(shape[0]), blank(shape[1]), *space))

    @classmethod
    def unknown(cls, shape: Sequence[int], lost: Lost | None) -> "Field":
        return cls(tuple(along(n, lost) for n in shape))

    @property
    def lost(self) -> str:
        """The operation since which some dimension is lost; the first dimensions are asked last."""
        found = [o.operation for dim in (*self.dims[2:], *self.dims[:2]) for o in origins(dim) if isinstance(o, Lost)]
        return found[0] if found else ""

    @property
    def doubt(self) -> str:
        """The operation of an attention branch that was joined on the way; empty where there is none."""
        axes = [axis for dim in self.dims for axis in origins(_cells(dim)) if isinstance(axis, Axis)]
        return next((axis.doubt for axis in axes if axis.doubt), "")

    @property
    def prefix(self) -> int:
        """How many tokens stand before those of the image."""
        return max((prefix_of(dim) for dim in self.dims), default=0)

    @property
    def cut(self) -> bool:
        """Whether an axis lies in two parts: until they are joined or summed, nothing may pick inner cells."""
        return any(isinstance(origin, Inner) for dim in self.dims for origin in origins(dim))

    def footprint(self, rank: int) -> Footprint | None:
        """Where the cells of a tensor (batch, channel, *space) lie, if its axes are the image's axes in their order."""
        return _footprint(self.dims[2:], rank) if len(self.dims) == rank + 2 else None

    def placed(self, rank: int) -> tuple[Layout, Footprint] | None:
        """How a tensor holds a map of the image's axes in their order, and where its cells lie; None if it does not."""
        if found := self.footprint(rank):
            return CHANNELS_FIRST, found
        if len(self.dims) == rank + 2 and (found := _footprint(self.dims[1:-1], rank)):
            return Layout("channels last"), found
        if len(self.dims) != 3 or not (found := _footprint([(f,) for f in _cells(self.dims[1])], rank)):
            return None
        return Layout("tokens", prefix_of(self.dims[1]), found.shape), found


def _footprint(dims: Sequence[Dim], rank: int) -> Footprint | None:
    known = [axis for dim in dims if (axis := axis_of(dim)) is not None]
    if len(known) != len(dims) or [axis.image_axis for axis in known] != list(range(rank)):
        return None
    shape = tuple(size(dim) for dim in dims)
    return Footprint(tuple(axis.centre for axis in known), tuple(axis.jump for axis in known), shape)


def prefix_of(dim: Dim) -> int:
    """How many cells of a dimension stand before the image's."""
    return dim[0][1].count if len(dim) == 1 and isinstance(dim[0][1], Prefixed) else 0


def _cells(dim: Dim) -> Dim:
    """The cells behind the prefix."""
    return dim[0][1].rest if len(dim) == 1 and isinstance(dim[0][1], Prefixed) else dim


def prefixed(count: int, dim: Dim, operation: str) -> Dim:
    """The dimension whose cells follow `count` cells that follow nothing; one axis alone would be padding."""
    rest, n = _cells(dim), count + size(dim)
    placed = [origin for _, origin in rest if isinstance(origin, Axis)]
    if len(placed) < len(rest) or len(placed) < 2:
        return along(n, lost_in([dim], operation))
    return ((n, Prefixed(count + prefix_of(dim), rest)),)


def picked(dim: Dim, start: int, n: int) -> Dim | None:
    """The `n` neighbouring cells from `start` on of tokens behind a prefix; None where they cannot be told."""
    prefix, rest = prefix_of(dim), _cells(dim)
    if prefix and start + n <= prefix:
        return blank(n)
    if not prefix or start > prefix or start + n != size(dim):
        return None
    return rest if start == prefix else ((n, Prefixed(prefix - start, rest)),)


def along(n: int, origin: Origin | None) -> Dim:
    """A dimension of n cells that follows `origin`; one cell alone cannot be lost."""
    return ((n, None if n == 1 and isinstance(origin, Lost) else origin),)


def blank(n: int) -> Dim:
    """A dimension that follows nothing."""
    return ((n, None),)


def size(dim: Dim) -> int:
    """How many cells a dimension has."""
    return math.prod(n for n, _ in dim)


def origins(dim: Dim) -> list[Origin]:
    """What the factors of a dimension follow, where they follow something."""
    return [origin for _, origin in dim if origin is not None]


def axis_of(dim: Dim) -> Axis | None:
    """The one image axis of a dimension; trailing blank factors are sub-cells, as in a pixel shuffle."""
    factors = [factor for factor in dim if factor[0] != 1 or factor[1] is not None] or list(dim)
    axis = factors[0][1] if factors else None
    if len(factors) == 2 and isinstance(cut := factors[1][1], Inner):
        return cut.axis if axis == _outer(cut.axis, factors[1][0]) else None
    if not isinstance(axis, Axis) or any(other is not None for _, other in factors[1:]):
        return None
    inner = math.prod(n for n, _ in factors[1:])
    middle = (1 - inner) / (2 * inner)
    return axis.window(1 / inner, middle, middle)


def _outer(axis: Axis, cells: int) -> Axis:
    return axis.window(cells, 0, cells - 1)


def lost_in(dims: Iterable[Dim], operation: str) -> Lost | None:
    """What becomes of dimensions that `operation` mixes in a way that cannot be followed; None where all are blank.

    Inner cells of an axis may be mixed: the outer cell beside them sees them all.
    """
    found = [o for dim in dims for n, o in dim if o is not None and n > 1 and not isinstance(o, Inner)]
    lost = [origin for origin in found if isinstance(origin, Lost)]
    if not found or len(lost) == len(found):
        return next((one for one in lost if not one.attends), lost[0] if lost else None)
    return next((one for one in lost if not one.attends), Lost(operation))


def moved(dim: Dim, n: int, window: tuple[float, float, float], operation: str) -> Dim:
    """The dimension of n cells that read `dim` through windows (stride, first, last)."""
    axis = axis_of(dim)
    return along(n, axis.window(*window) if axis else lost_in([dim], operation))


def unite(dims: Sequence[Dim], operation: str) -> Dim:
    """The dimension whose cells see what the same cells of all of `dims` see.

    What follows nothing has no say. What is lost makes the whole lost, except by attention: then the others count,
    and the doubt stays with them.
    """
    told = [dim for dim in dims if origins(dim)]
    if len(told) < 2:
        return told[0] if told else blank(size(dims[0]))
    n = size(dims[0])
    lost = [origin for dim in told for origin in origins(dim) if isinstance(origin, Lost)]
    known = [dim for dim in told if not any(isinstance(origin, Lost) for origin in origins(dim))]
    final = next((one for one in lost if not one.attends), None)
    if final or not known:
        return along(n, final or lost[0])
    return _joined(known, n, operation, next((one.operation for one in lost), ""))


def _joined(known: Sequence[Dim], n: int, operation: str, doubt: str) -> Dim:
    prefixes = {prefix_of(dim) for dim in known}
    if prefixes != {0}:
        count = max(prefixes)
        same = len(prefixes) == 1
        rest = _joined([_cells(dim) for dim in known], n - count, operation, doubt) if same else ()
        lost = not rest or any(isinstance(origin, Lost) for origin in origins(rest))
        return along(n, Lost(operation)) if lost else ((n, Prefixed(count, rest)),)
    if any(isinstance(origin, Inner) for dim in known for origin in origins(dim)):
        return known[0] if all(dim == known[0] for dim in known) else along(n, Lost(operation))
    sizes = [tuple(m for m, _ in dim) for dim in known]
    if any(other != sizes[0] for other in sizes):
        axes = [axis_of(dim) for dim in known]
        return along(n, Lost(operation) if None in axes else _hull(axes, n, operation, doubt))
    return tuple((m, _hull([_axis(dim[i][1]) for dim in known], m, operation, doubt)) for i, m in enumerate(sizes[0]))


def _axis(origin: Origin | None) -> Axis | None:
    return origin if isinstance(origin, Axis) else None


def _hull(axes: Sequence[Axis | None], n: int, operation: str, doubt: str) -> Axis | Lost | None:
    known = [axis for axis in axes if axis is not None]
    if not known:
        return None
    first = known[0]
    if any(a.image_axis != first.image_axis or abs(a.jump - first.jump) > 0.1 * abs(first.jump) for a in known):
        return Lost(operation) if n > 1 else None
    doubt = next((a.doubt for a in known if a.doubt), doubt)
    lo, hi = min(a.lo for a in known), max(a.hi for a in known)
    if n == 1:
        return Axis(first.image_axis, first.jump, lo, hi, doubt)
    ends = [(a.lo + a.jump * (n - 1), a.hi + a.jump * (n - 1)) for a in known]
    middle = (min(end[0] for end in ends) + max(end[1] for end in ends)) / 2
    return Axis(first.image_axis, (middle - (lo + hi) / 2) / (n - 1), lo, hi, doubt)


def regroup(dims: Sequence[Dim], shape: Sequence[int], operation: str) -> tuple[Dim, ...]:
    """The dimensions of a contiguous tensor viewed as `shape`; an axis may be cut in two once."""
    left = [factor for dim in dims for factor in dim]
    unknown = Field.unknown(shape, lost_in(dims, operation)).dims
    result = []
    for n in shape:
        dim: list[Factor] = []
        while left and left[0][0] == 1 and n > 1:
            left.pop(0)
        rest = n
        while rest > 1 and left:
            head, origin = left.pop(0)
            if rest % head and head % rest:
                return unknown
            taken = min(head, rest)
            if taken < head and isinstance(origin, Inner):
                return unknown
            if taken < head:
                outer, inner = _halves(head, taken, origin, operation)
                left.insert(0, inner)
                dim.append(outer)
            else:
                dim.append((taken, origin))
            rest //= taken
        if n == 1 and left and left[0][0] == 1:
            dim.append(left.pop(0))
        result.append(tuple(dim) or blank(n))
    return unknown if any(map(_torn, result)) else tuple(result)


def _halves(n: int, outer: int, origin: Origin | None, operation: str) -> tuple[Factor, Factor]:
    if isinstance(origin, Axis):
        return (outer, _outer(origin, n // outer)), (n // outer, Inner(origin))
    lost = lost_in([along(n, origin)], operation)
    return (outer, lost), (n // outer, lost)


def _torn(dim: Dim) -> bool:
    """Whether inner cells stand beside an axis that is not the outer part of their own."""
    kinds = {type(origin) for origin in origins(dim)}
    return {Axis, Inner} <= kinds and axis_of(dim) is None
