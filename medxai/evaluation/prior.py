"""Where maps of this kind point whoever the patient is: the mean map of all other patients of a table."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from operator import add

import torch
from torch import Tensor

from medxai.core.geometry import Geometry
from medxai.core.saliency import Saliency
from medxai.errors import GeometryError
from medxai.shapes import LayerMap, Map

CELLS = 32
_POOL: Mapping[int, Callable[..., Tensor]] = {
    2: torch.nn.functional.adaptive_avg_pool2d,
    3: torch.nn.functional.adaptive_avg_pool3d,
}
_TOWARDS = {"L": "R", "P": "A", "I": "S"}
_SPACE = "RAS"


@dataclass(frozen=True)
class Extent:
    """The lines R, A and S of the patient along which a grid extends ("RA" of an axial slice), and its number of axes.

    A grid of two axes is a plane, and one of three of which a single one is one voxel long.
    """

    lines: str
    axes: int

    @classmethod
    def of(cls, grid: Geometry) -> "Extent":
        """The extent of a grid."""
        flat = grid.ndim == 3 and grid.shape.count(1) == 1
        across = grid.axcodes[grid.shape.index(1)] if flat else ""
        return cls(upright(grid.axcodes.replace(across, "")), grid.ndim)

    @classmethod
    def of_map(cls, saliency: Saliency) -> "Extent":
        """That of what the model saw, however coarse the layer; a film read from a file of one slice is a volume."""
        seen, own = saliency.seen, saliency.geometry
        return cls.of(seen if seen.ndim == own.ndim else own)

    def fits(self, other: "Extent") -> bool:
        """Whether maps of both can be laid on each other: of one plane, or volumes of which one is no plane."""
        return self.lines == other.lines or (self.axes == other.axes == 3 and _SPACE in {self.lines, other.lines})


@dataclass(frozen=True, eq=False)
class Prior:
    """For each patient and extent the sum of all other patients' maps, each map of mass 1.

    On 32 cells along each line of the extent; the axes run to the right, the front and the top, in this order. `whole`
    are the sums over all patients, for one who has no map.
    """

    others: Mapping[tuple[str, Extent], Map | None]
    whole: Mapping[Extent, Map]

    def without(self, patient: str, grid: Geometry) -> Map | None:
        """The sum over all other patients' maps that fit `grid`, or None where there is none.

        Its axes run as those of `grid`; corner lies on corner, as in `Chance`.
        """
        wanted, axes = Extent.of(grid), upright(grid.axcodes)
        fitting = [(extent, found) for extent, found in self._of_others(patient) if extent.fits(wanted)]
        if not fitting:
            return None
        most = max(found.numel() for _, found in fitting)
        parts = [_along(found, extent.lines, axes) * (found.numel() / most) for extent, found in fitting]
        return reoriented(reduce(add, parts), axes, grid.axcodes)

    def misfits(self, patient: str, grid: Geometry) -> bool:
        """Whether another patient has a map that cannot be laid on `grid`."""
        return not all(extent.fits(Extent.of(grid)) for extent, _ in self._of_others(patient))

    def _of_others(self, patient: str) -> Iterator[tuple[Extent, Map]]:
        for extent, whole in self.whole.items():
            found = self.others.get((patient, extent), whole)
            if found is not None:
                yield extent, found


def prior(maps: Iterable[tuple[str, Saliency]]) -> Prior:
    """The prior of maps with their patients; one that does not point somewhere adds nothing."""
    sums: defaultdict[Extent, dict[str, Map]] = defaultdict(dict)
    for patient, saliency in maps:
        if not points_somewhere(saliency):
            continue
        extent, positive = Extent.of_map(saliency), saliency.data.nan_to_num(nan=0.0).clamp(min=0)
        plain = _along(positive, saliency.geometry.axcodes, extent.lines)
        cells = _POOL[plain.ndim](plain[None, None], (CELLS,) * plain.ndim)[0, 0]
        own = sums[extent]
        own[patient] = own.get(patient, 0) + cells / cells.sum()
    others = {(patient, extent): rest for extent, own in sums.items() for patient, rest in _others(own).items()}
    return Prior(others, {extent: torch.stack(list(own.values())).sum(0) for extent, own in sums.items()})


def points_somewhere(other: Saliency | Map) -> bool:
    """Whether a map is not degenerate and has a positive mass that is finite; NaN is what the model did not see."""
    values, ok = (other.data, other.status.ok) if isinstance(other, Saliency) else (other, True)
    mass = float(values.double().nan_to_num(nan=0.0, posinf=torch.inf).clamp(min=0).sum())
    return ok and torch.finfo(torch.float32).tiny < mass < torch.inf


def _others(sums: Mapping[str, Map]) -> dict[str, Map | None]:
    """For each patient the sum of those before and of those after: nothing is subtracted, so nothing is left over."""
    patients = list(sums)
    before = list(accumulate([None, *(sums[one] for one in patients[:-1])], _added))
    after = list(accumulate([None, *(sums[one] for one in reversed(patients[1:]))], _added))[::-1]
    return {one: _added(b, a) for one, b, a in zip(patients, before, after, strict=True)}


def _added(first: Map | None, second: Map | None) -> Map | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def on_axes_of(grid: Geometry, saliency: Saliency) -> Map:
    """The cells of a map with axes that run as those of `grid`; a plane is laid on a volume of one slice, and back.

    Raises GeometryError where they do not fit, see `Extent`.
    """
    extent, wanted = Extent.of_map(saliency), Extent.of(grid)
    if not extent.fits(wanted):
        raise GeometryError(
            "A map of this extent cannot be laid on this grid.",
            expected=f"a map along {wanted.lines}",
            found=f"one along {extent.lines}",
            remedy="Compare with maps of the same plane, or of whole volumes.",
        )
    axes = upright(grid.axcodes)
    return reoriented(_along(saliency.data, saliency.geometry.axcodes, axes), axes, grid.axcodes)


def upright(axcodes: str) -> str:
    """The directions R, A and S along which such axes lie, in this order: "RAS" of "LPS", "RA" of "PL"."""
    return "".join(sorted((_TOWARDS.get(code, code) for code in axcodes), key=_SPACE.index))


def reoriented(values: LayerMap, source: str, target: str) -> Map:
    """An array whose axes run as `source` says, permuted and flipped so that they run as `target` says.

    Raises GeometryError where the two do not lie along the same axes of the patient.
    """
    if upright(source) != upright(target):
        raise GeometryError("These axes lie along other lines of the patient.", expected=target, found=source)
    lines = [_TOWARDS.get(code, code) for code in source]
    order = [lines.index(_TOWARDS.get(code, code)) for code in target]
    return values.permute(order).flip([axis for axis, code in enumerate(target) if code not in source])


def _along(values: LayerMap, axcodes: str, lines: str) -> Map:
    """The array with one axis along each of `lines`: of one cell where it has none, the mean along all its others."""
    own = upright(axcodes)
    found = reoriented(values, axcodes, own)
    for axis in reversed([axis for axis, line in enumerate(own) if line not in lines]):
        found = found.mean(axis)
    for axis in [axis for axis, line in enumerate(lines) if line not in own]:
        found = found.unsqueeze(axis)
    return found
