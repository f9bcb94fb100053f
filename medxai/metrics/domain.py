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
    """Expected number of mask voxels among the `count` highest, ties broken at random, outside voxels last.

    Values above the count-th count fully; the tied block at it contributes its free slots times the share of the
    block that lies in the mask.
    """
    values = saliency.nan_to_num(nan=-torch.inf).flatten()
    inside = mask.flatten()
    edge = values.topk(min(count, values.numel())).values[-1]
    above, tied = values > edge, values == edge
    slots = count - int(above.sum())
    return _count(above & inside) + slots * _count(tied & inside) / max(_count(tied), 1)


def _count(mask: Tensor) -> float:
    return float(mask.sum())
