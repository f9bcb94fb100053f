"""What is asked of the network about changed images: the target as it was settled on the image as it is."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medxai.core.target import (
    ClassScore,
    ContrastScore,
    FinerScore,
    GroupContrastScore,
    GroupScore,
    MarginScore,
    RegionScore,
    ReSTScore,
    Target,
    settled,
)
from medxai.model.scoring import Link
from medxai.shapes import Scores

Groups = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class SoftDice:
    """2 sum_R p / (sum p + |R|) of one class's probabilities p and the region R (1, *space) it won in the intact image.

    In [0, 1] whatever the size of the region, which a sum over it is not; the region of a changed image is not asked.
    """

    index: int
    region: Tensor

    def __call__(self, output: Any) -> Scores:
        p = output[:, self.index].flatten(1)
        region = self.region.flatten(1).to(p)
        both = (p * region).sum(1)
        size = (p.sum(1) + region.sum(1)).clamp(min=torch.finfo(p.dtype).tiny)
        dice: Tensor = 2 * both / size
        return dice


def put(target: Target, output: Any, link: Link) -> Target:
    """The target as it is put to changed images, after the network gave `output`, not linked, for the intact one.

    What it took from that output (a predicted region, the nearest classes) is fixed. A region after a softmax or
    sigmoid is asked by its soft Dice overlap; its logits are summed.
    """
    now = settled(target, output)
    if isinstance(now, FinerScore):
        return ContrastScore(now.index, now.chosen[0], now.gamma)
    if isinstance(now, RegionScore) and now.region is not None and link in {"softmax", "sigmoid"}:
        return SoftDice(now.index, now.region if now.region.ndim == output.ndim - 1 else now.region[None])
    return now


def groups(target: Target, output: Any) -> Groups | None:
    """The classes that a target asks about, and those it sets against them; None for what names no classes.

    `target` is one as `put`; a margin is against the runner-up in `output`.
    """
    match target:
        case ClassScore(index=int(index)) | ReSTScore(index=index):
            return (index,), ()
        case GroupScore(indices=indices):
            return indices, ()
        case ContrastScore(index=index, references=references):
            return (index,), references
        case GroupContrastScore(indices=indices, others=others):
            return indices, others
        case MarginScore(index=index):
            runner_up = next(int(k) for k in output[0].argsort(descending=True) if int(k) != index)
            return (index,), (runner_up,)
        case _:
            return None
