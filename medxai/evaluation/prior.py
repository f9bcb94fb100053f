"""Where maps of this kind point whoever the patient is: the mean map of all other patients of a table."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

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
    """For each patient and plane ("RAS" of volumes) the sum of the patient's maps, each of mass 1.

    On 32 cells per axis; the axes run to the right, the front and the top, in this order.
    """

    sums: Mapping[tuple[str, str], Map]

    def without(self, patient: str, grid: Geometry) -> Map | None:
        """The sum over all other patients, or None where no other has a map in the plane of `grid`.

        Its axes run as those of `grid`; corner lies on corner, as in `Chance`.
        """
        plane = upright(grid.axcodes)
        others = [one for (name, own), one in self.sums.items() if name != patient and own == plane]
        return turned(torch.stack(others).sum(0), plane, grid.axcodes) if others else None


def prior(maps: Iterable[tuple[str, Saliency]]) -> Prior:
    """The prior of maps with their patients; one that is degenerate or nowhere positive adds nothing."""
    sums: defaultdict[tuple[str, str], Map] = defaultdict(lambda: torch.zeros(()))
    for patient, saliency in maps:
        axcodes = saliency.geometry.axcodes
        plane = upright(axcodes)
        positive = turned(saliency.data, axcodes, plane).nan_to_num(nan=0.0).clamp(min=0)[None, None]
        cells = _POOL[len(plane)](positive, (CELLS,) * len(plane))[0, 0]
        if saliency.status.ok and bool(cells.isfinite().all()) and float(cells.sum()) > 0:
            sums[patient, plane] = sums[patient, plane] + cells / cells.sum()
    return Prior(dict(sums))


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
