"""Does the saliency fall on the annotated finding? NaN voxels are outside the model's field; undefined is NaN."""

from math import nan

import torch

from medxai.metrics.domain import seen, top_share, undefined
from medxai.metrics.spec import MetricSpec
from medxai.shapes import Map, MaskArray


def pointing_game(saliency: Map, mask: MaskArray) -> float:
    """1 where the maximum lies in the mask, else 0; tied maxima count by their share in the mask.

    Zhang et al. 2018, without pixel tolerance.
    """
    if undefined(saliency, mask):
        return nan
    return float(mask[saliency == saliency[seen(saliency)].max()].float().mean())


def mass_in_mask(saliency: Map, mask: MaskArray) -> float:
    """Share of the positive saliency that lies in the mask: sum_M [S]+ / sum [S]+.

    Also called energy-based pointing game or relevance mass accuracy (Wang et al. 2020; Arras et al. 2022).
    """
    if undefined(saliency, mask):
        return nan
    positive = saliency.nan_to_num(nan=0.0).clamp(min=0).to(torch.float64)
    return float(positive[mask].sum() / positive.sum())


def iou_at_mask_size(saliency: Map, mask: MaskArray) -> float:
    """Overlap I / (k + |M| - I) of the mask M with the k highest voxels, k = |M| or as many as the model saw.

    I is the expected overlap when ties are broken at random. No threshold is chosen, so none can be tuned.
    """
    if undefined(saliency, mask):
        return nan
    size = int(torch.count_nonzero(mask))
    chosen = min(size, int(torch.count_nonzero(seen(saliency))))
    overlap = top_share(saliency, mask, chosen)
    return overlap / (chosen + size - overlap)


def _share(share: float) -> float:
    return share


def _same_size(share: float) -> float:
    return share / (2 - share)


METRICS = (
    MetricSpec(pointing_game, needs="mask", best=1.0, span=(0.0, 1.0), uniform=_share),
    MetricSpec(mass_in_mask, needs="mask", best=1.0, span=(0.0, 1.0), uniform=_share),
    MetricSpec(iou_at_mask_size, needs="mask", best=1.0, span=(0.0, 1.0), uniform=_same_size),
)
