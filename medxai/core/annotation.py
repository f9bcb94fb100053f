"""Annotations that are not one region drawn once: shares of a voxel, several readers, several labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from medxai.core.geometry import Geometry
from medxai.core.volume import Mask, refuse_other_size
from medxai.errors import MaskError
from medxai.shapes import Map


@dataclass(frozen=True, eq=False)
class SoftMask:
    """A share in [0, 1] per voxel: how much of it, or how many of its readers, belong to the finding."""

    data: Map
    geometry: Geometry
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse_other_size(self.data, self.geometry)
        if not bool(((self.data >= 0) & (self.data <= 1)).all()):
            raise MaskError("A soft mask holds a share per voxel.", expected="values in [0, 1]")


Annotation = Mask | SoftMask


def agreed(masks: Sequence[Annotation]) -> SoftMask:
    """The share of readers who mark each voxel. Raises MaskError where their grids differ or there is none."""
    if not masks:
        raise MaskError("Agreement is of one or more readers.", found="no mask")
    first = masks[0]
    for other in masks[1:]:
        if not other.geometry.same(first.geometry):
            raise MaskError(
                "The readers' masks are not on one grid.", expected=f"{first.geometry}", found=f"{other.geometry}"
            )
    share = torch.stack([mask.data for mask in masks]).to(torch.float32).mean(0)
    notices = dict.fromkeys(notice for mask in masks for notice in mask.notices)
    return SoftMask(share, first.geometry, tuple(notices))


def voted(masks: Sequence[Mask], share: float) -> Mask:
    """The voxels that at least `share` of the readers mark: 1 for all of them, above 0 for any, 0.5 for half."""
    found = agreed(masks)
    least = max(share, 0.5 / len(masks))
    return Mask(found.data >= least - 1e-6, found.geometry, found.notices)


def findings(labels: Mapping[str, Mask]) -> Mask:
    """Every voxel of any of the labels, as one region."""
    return voted(list(labels.values()), 0.0)
