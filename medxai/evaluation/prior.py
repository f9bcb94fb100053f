"""Where maps of this kind point whoever the patient is: the mean map of all other patients of a table."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

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


@dataclass(frozen=True, eq=False)
class Prior:
    """For each patient and plane ("RAS" of volumes) the sum of all other patients' maps, each map of mass 1.

    On 32 cells per axis; the axes run to the right, the front and the top, in this order. `whole` are the sums over all
    patients, for one who has no map.
    """

    others: Mapping[tuple[str, str], Map | None]
    whole: Mapping[str, Map]

    def without(self, patient: str, grid: Geometry) -> Map | None:
        """The sum over all other patients, or None where no other has a map in the plane of `grid`.

        Its axes run as those of `grid`; corner lies on corner, as in `Chance`.
        """
        plane = upright(_plane(grid.shape, grid.axcodes))
        own = (patient, plane)
        found = self.others[own] if own in self.others else self.whole.get(plane)
        return None if found is None else turned_to(found, plane, grid)


def prior(maps: Iterable[tuple[str, Saliency]]) -> Prior:
    """The prior of maps with their patients; one that is degenerate or nowhere positive adds nothing."""
    sums: defaultdict[str, dict[str, Map]] = defaultdict(dict)
    for patient, saliency in maps:
        values, axcodes = _flat(saliency.data, saliency.geometry.axcodes)
        plane = upright(axcodes)
        positive = turned(values, axcodes, plane).nan_to_num(nan=0.0).clamp(min=0)[None, None]
        cells = _POOL[len(plane)](positive, (CELLS,) * len(plane))[0, 0]
        if saliency.status.ok and bool(cells.isfinite().all()) and float(cells.sum()) > 0:
            own = sums[plane]
            own[patient] = own.get(patient, 0) + cells / cells.sum()
    others = {(patient, plane): rest for plane, own in sums.items() for patient, rest in _others(own).items()}
    return Prior(others, {plane: torch.stack(list(own.values())).sum(0) for plane, own in sums.items()})


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


def turned_to(values: LayerMap, axcodes: str, grid: Geometry) -> Map:
    """`turned` to the axes of `grid`; a volume of one slice is a plane. Raises GeometryError as `turned`."""
    laid = turned(*_flat(values, axcodes), _plane(grid.shape, grid.axcodes))
    return laid if laid.ndim == grid.ndim else laid.unsqueeze(grid.shape.index(1))


def _flat(values: LayerMap, axcodes: str) -> tuple[Map, str]:
    plane = _plane(tuple(values.shape), axcodes)
    return (values if plane == axcodes else values.squeeze(tuple(values.shape).index(1))), plane


def _plane(shape: tuple[int, ...], axcodes: str) -> str:
    """The axes of a volume of one slice but that across it; else all of them."""
    if len(shape) != 3 or shape.count(1) != 1:
        return axcodes
    across = shape.index(1)
    return axcodes[:across] + axcodes[across + 1 :]


def upright(axcodes: str) -> str:
    """The directions R, A and S along which such axes lie, in this order: "RAS" of "LPS", "RA" of "PL"."""
    return "".join(sorted((_TOWARDS.get(code, code) for code in axcodes), key="RAS".index))


def turned(values: LayerMap, source: str, target: str) -> Map:
    """An array whose axes run as `source` says, permuted and flipped so that they run as `target` says.

    Raises GeometryError where the two do not lie along the same axes of the patient.
    """
    if upright(source) != upright(target):
        raise GeometryError("Maps of two planes cannot be laid on each other.", expected=target, found=source)
    lines = [_TOWARDS.get(code, code) for code in source]
    order = [lines.index(_TOWARDS.get(code, code)) for code in target]
    return values.permute(order).flip([axis for axis, code in enumerate(target) if code not in source])
