"""What every metric on a map and a mask agrees on: NaN voxels are outside, and undefined has a reason."""

import torch
from torch import Tensor

from medxai.shapes import Map, MaskArray


def undefined(saliency: Map, mask: MaskArray) -> str:
    """Why no alignment of this map with this mask can be stated, or "" where it can.

    A map without any positive value points nowhere, so it is neither a hit nor a miss.
    """
    if not mask.any():
        return "empty mask"
    if bool(saliency.isnan().all()):
        return "the model saw none of this grid"
    if not bool((saliency > 0).any()):
        return "no positive saliency"
    return ""


def seen(saliency: Map) -> MaskArray:
    """The voxels that the model looked at."""
    return ~saliency.isnan()


def top_share(saliency: Map, mask: MaskArray, count: int) -> float:
    """Expected number of mask voxels among the `count` highest that the model saw, ties broken at random.

    Values above the count-th count fully; the tied block at it contributes its free slots times the share of the
    block that lies in the mask.
    """
    inside, values = mask[seen(saliency)], saliency[seen(saliency)]
    edge = values.topk(count).values[-1]
    above, tied = values > edge, values == edge
    slots = count - _count(above)
    return _count(above & inside) + slots * _count(tied & inside) / _count(tied)


def _count(mask: Tensor) -> int:
    return int(torch.count_nonzero(mask))
