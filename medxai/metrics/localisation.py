"""Does the saliency fall on the annotated finding? NaN voxels are outside the model's field; undefined is NaN."""

import numpy as np

from medxai.metrics.reading import Reading
from medxai.metrics.spec import RUNGS, MetricSpec, Undefined


def pointing_game(reading: Reading) -> float:
    """1 where the maximum lies in the mask, else 0; tied maxima count by their share in the mask.

    Zhang et al. 2018, without tolerance; also called hit rate.
    """
    if reading.undefined:
        return Undefined(reading.undefined)
    peak = np.array([reading.peak])
    return float(reading.ranking.caught(peak)[0] / reading.ranking.count(peak)[0])


def mass_in_mask(reading: Reading) -> float:
    """Share of the positive saliency that lies in the mask: sum_M [S]+ / sum [S]+.

    Also called energy-based pointing game or relevance mass accuracy (Wang et al. 2020; Arras et al. 2022).
    """
    if reading.undefined:
        return Undefined(reading.undefined)
    inside, everywhere = reading.ranking.heat(np.array([np.nextafter(0.0, 1.0)]))
    return float(inside[0] / everywhere[0])


def mass_lift(reading: Reading) -> float:
    """How many times more saliency the mask holds than a uniform map: mass_in_mask over the share of seen voxels."""
    if reading.undefined:
        return Undefined(reading.undefined)
    share = float(reading.ranking.shares.sum()) / reading.ranking.values.size
    return mass_in_mask(reading) / share if share else Undefined("the model saw no voxel of the mask")


def iou_at_mask_size(reading: Reading) -> float:
    """Overlap I / (k + |M| - I) of the mask M with the k highest voxels, k = |M| or as many as the model saw.

    I is the expected overlap when ties are broken at random. No threshold is chosen, so none can be tuned.
    """
    if reading.undefined:
        return Undefined(reading.undefined)
    size = reading.mask_size
    chosen = min(size, reading.ranking.values.size)
    overlap = reading.ranking.top(chosen)
    return overlap / (chosen + size - overlap)


def precision_at_mask_size(reading: Reading) -> float:
    """Share of the mask among as many of the highest voxels as the mask has, ties in expectation.

    Relevance rank accuracy (Arras et al. 2022).
    """
    if reading.undefined:
        return Undefined(reading.undefined)
    return reading.ranking.top(reading.mask_size) / reading.mask_size


def auroc(reading: Reading) -> float:
    """Probability that a voxel of the mask outranks one beside it, ties counting half."""
    return Undefined(reading.undefined) if reading.undefined else reading.ranking.auroc()


def average_precision(reading: Reading) -> float:
    """Mean precision over the recall of the mask's voxels, without interpolation; tied voxels pass together.

    A uniform map scores the share of the mask.
    """
    return Undefined(reading.undefined) if reading.undefined else reading.ranking.average_precision()


def normalised_average_precision(reading: Reading) -> float:
    """Average precision on a scale where a uniform map has 0 and a perfect one 1: (AP - pi) / (1 - pi).

    pi is the share of the seen voxels that the mask fills.
    """
    if reading.undefined:
        return Undefined(reading.undefined)
    share = float(reading.ranking.shares.sum()) / reading.ranking.values.size
    if share >= 1:
        return Undefined("the mask covers everything that the model saw")
    return (reading.ranking.average_precision() - share) / (1 - share)


def top_1000_in_mask(reading: Reading) -> float:
    """Share of the mask among the 1000 highest voxels, or among all where fewer were seen, ties in expectation."""
    if reading.undefined:
        return Undefined(reading.undefined)
    count = min(1000, reading.ranking.values.size)
    return reading.ranking.top(count) / count


def _share(share: float) -> float:
    return share


def _same_size(share: float) -> float:
    return share / (2 - share)


def _zero(share: float) -> float:  # noqa: ARG001
    return 0.0


def _half(share: float) -> float:  # noqa: ARG001 - every chance level is a function of the share
    return 0.5


def _one(share: float) -> float:  # noqa: ARG001
    return 1.0


_PEAK = ("exact", "random")
METRICS = (
    MetricSpec(pointing_game, "mask", best=1.0, span=(0.0, 1.0), uniform=_share, claims=_PEAK),
    MetricSpec(mass_in_mask, "mask", best=1.0, span=(0.0, 1.0), uniform=_share, claims=RUNGS),
    MetricSpec(mass_lift, "mask", best=None, span=(0.0, float("inf")), uniform=_one, claims=RUNGS),
    MetricSpec(iou_at_mask_size, "mask", best=1.0, span=(0.0, 1.0), uniform=_same_size, claims=RUNGS),
    MetricSpec(precision_at_mask_size, "mask", best=1.0, span=(0.0, 1.0), uniform=_share, claims=RUNGS),
    MetricSpec(auroc, "mask", best=1.0, span=(0.0, 1.0), uniform=_half, claims=RUNGS),
    MetricSpec(average_precision, "mask", best=1.0, span=(0.0, 1.0), uniform=_share, claims=RUNGS, ties="together"),
    MetricSpec(normalised_average_precision, "mask", 1.0, (-1.0, 1.0), _zero, claims=RUNGS, ties="together"),
    MetricSpec(top_1000_in_mask, "mask", best=None, span=(0.0, 1.0), uniform=_share, claims=_PEAK),
)
