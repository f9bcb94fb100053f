"""The four criteria of Arun et al. 2021 (Radiology: Artificial Intelligence 3, e200267) as one table."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean

from medxai.errors import UsageError
from medxai.metrics.localisation import average_precision
from medxai.metrics.randomisation import untrained_ssim
from medxai.metrics.reading import Reading
from medxai.metrics.similarity import random_pairs, ssim
from medxai.metrics.trial import Trial
from medxai.shapes import Maps, MaskArray

Precision = tuple[float, float]


@dataclass(frozen=True)
class Criterion:
    """One criterion: its mean over `n` images, what knowing nothing scores, and whether the method meets it.

    `met` is None where nothing could be compared, or where the criterion has no bar of its own: agreement between
    trainings is then held against `baseline`, the agreement of maps of different images.
    """

    name: str
    value: float
    baseline: float
    n: int
    met: bool | None


def arun(
    trial: Trial, utility: Sequence[Precision] = (), retrained: Maps | None = None, other: Maps | None = None
) -> tuple[Criterion, ...]:
    """Utility, weight randomisation, repeatability and reproducibility of the trial's method, in this order.

    `utility` is what each image's map scores and what knowing nothing would (NaN: no finding), `retrained` the maps of
    the same images by a second training of the same network, `other` those by another architecture, both over the image
    grid. What is not given is not judged. Utility: average precision, met above the prevalence. Weight randomisation:
    SSIM of map and map of the untrained network, met below the mean of 50 random pairs. Repeatability and
    reproducibility: SSIM of the maps of one image, met above that of random pairs (the paper sets them beside a
    localisation network's).
    Raises UsageError for fewer than two images, or for scores or maps of another number.
    """
    count = len(trial.images)
    given = [len(one) for one in (utility or None, retrained, other) if one is not None]
    if count < 2 or any(n != count for n in given):
        raise UsageError(
            "The criteria compare images.", expected="two or more, and one score and map of each", found=f"{given}"
        )
    pairs = random_pairs(trial.maps, ssim, pairs=50, seed=trial.seed)
    chance = fmean(pairs) if pairs else nan
    return (
        _utility(utility),
        _criterion("weight randomisation", untrained_ssim(trial), chance, above=False),
        _agreement("repeatability", trial.maps, retrained, chance),
        _agreement("reproducibility", trial.maps, other, chance),
    )


def precisions(maps: Maps, masks: Sequence[MaskArray]) -> tuple[Precision, ...]:
    """Average precision and prevalence of maps whose findings lie on the same grid; NaN where it is undefined."""
    readings = [Reading(one, mask) for one, mask in zip(maps, masks, strict=True)]
    return tuple((average_precision(one), float(one.mask.double().mean())) for one in readings)


def _utility(scores: Sequence[Precision]) -> Criterion:
    asked = [(value, prevalence) for value, prevalence in scores if not isnan(value)]
    share = fmean(prevalence for _, prevalence in asked) if asked else nan
    return _criterion("utility", [value for value, _ in asked], share, above=True)


def _agreement(name: str, first: Maps, second: Maps | None, chance: float) -> Criterion:
    found = [] if second is None else [ssim(a, b) for a, b in zip(first, second, strict=True)]
    return _criterion(name, found, chance, above=True)


def _criterion(name: str, values: Sequence[float], baseline: float, above: bool) -> Criterion:
    defined = [value for value in values if not isnan(value)]
    if not defined or isnan(baseline):
        return Criterion(name, fmean(defined) if defined else nan, baseline, len(defined), None)
    mean = fmean(defined)
    return Criterion(name, mean, baseline, len(defined), mean > baseline if above else mean < baseline)
