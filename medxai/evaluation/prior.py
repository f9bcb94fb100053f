"""Where maps of this kind point whoever the patient is: the mean map of all other patients of a table."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medxai.core.saliency import Saliency
from medxai.shapes import Map

CELLS = 32
_POOL: Mapping[int, Callable[..., Tensor]] = {
    2: torch.nn.functional.adaptive_avg_pool2d,
    3: torch.nn.functional.adaptive_avg_pool3d,
}


@dataclass(frozen=True, eq=False)
class Prior:
    """For each patient and number of axes the sum of the patient's maps, each of mass 1, on 32 cells per axis."""

    sums: Mapping[tuple[str, int], Map]

    def without(self, patient: str, axes: int) -> Map | None:
        """The sum over all other patients, or None where no other has a map. Corner lies on corner, as in `Chance`."""
        others = [one for (name, number), one in self.sums.items() if name != patient and number == axes]
        return torch.stack(others).sum(0) if others else None


def prior(maps: Iterable[tuple[str, Saliency]]) -> Prior:
    """The prior of maps with their patients; one that is degenerate or nowhere positive adds nothing."""
    sums: defaultdict[tuple[str, int], Map] = defaultdict(lambda: torch.zeros(()))
    for patient, saliency in maps:
        positive = saliency.data.nan_to_num(nan=0.0).clamp(min=0)[None, None]
        axes = saliency.data.ndim
        cells = _POOL[axes](positive, (CELLS,) * axes)[0, 0]
        if saliency.status.ok and bool(cells.isfinite().all()) and float(cells.sum()) > 0:
            sums[patient, axes] = sums[patient, axes] + cells / cells.sum()
    return Prior(dict(sums))
