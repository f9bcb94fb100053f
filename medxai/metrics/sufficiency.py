"""How little of the image is enough, how much of it is needed, and whole segments in the order of the map."""

from dataclasses import replace

import torch

from medxai.metrics.curves import Curve, Perturbation, even_levels
from medxai.metrics.imputation import Mean
from medxai.metrics.probe import Probe
from medxai.metrics.road import NoisyLinear
from medxai.metrics.spec import MetricSpec, PerturbationPart, Undefined, finite
from medxai.metrics.units import Supervoxels, Voxels

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
ROAD_LEVELS = tuple(round(0.1 * i, 1) for i in range(1, 10))


def comprehensiveness(probe: Probe) -> float:
    """Mean fall of the score as the top 1, 5, 10, 20 and 50 % of the units are removed: high is good.

    DeYoung et al. 2020.
    """
    return Undefined(probe.silent) if probe.silent else finite(probe.intact - _mean(probe, keep=False))


def sufficiency(probe: Probe) -> float:
    """Mean fall of the score as only the top 1, 5, 10, 20 and 50 % of the units are kept: low is good.

    DeYoung et al. 2020. (The metric of this name in Quantus is another one.)
    """
    return Undefined(probe.silent) if probe.silent else finite(probe.intact - _mean(probe, keep=True))


def irof_curve(probe: Probe) -> Curve:
    """The deletion curve over supervoxels, one by one (up to 400), the mean of each channel in their place."""
    return replace(probe, perturbation=Perturbation(Supervoxels(), Mean(), even_levels(400))).deletion


def irof(probe: Probe) -> float:
    """1 - area under score / intact score as supervoxels are removed, most salient first: high is good.

    Rieger and Hansen 2020, per segment, so that their number cancels (not divided by it in Quantus). Undefined for a
    score that is not positive.
    """
    if probe.unanswered or probe.intact <= 0:
        return Undefined(probe.unanswered or "the score is not positive")
    return finite(1 - irof_curve(probe).area / probe.intact)


def road(probe: Probe) -> float:
    """(least relevant first - most relevant first) / 2 of ROAD's imputation, mean over 10 .. 90 %: high is good.

    Rong et al. 2022, single voxels, noisy linear imputation; 0 is chance, and for probabilities 1/2 the bound.
    """
    if probe.unanswered:
        return Undefined(probe.unanswered)
    most, least = (road_scores(probe.of(values)) for values in (probe.saliency, -probe.saliency))
    return finite(float((least - most).mean()) / 2)


def road_scores(probe: Probe) -> torch.Tensor:
    """The scores after the top 10, 20 .. 90 % of the voxels were imputed by ROAD."""
    levels = Perturbation(Voxels(), NoisyLinear(), ROAD_LEVELS)
    return replace(probe, perturbation=levels).after(ROAD_LEVELS)


def _mean(probe: Probe, keep: bool) -> float:
    return float(probe.after(SHARES, keep).mean())


_ANY = (-torch.inf, torch.inf)
_LADDER = ("exact", "blurred", "random", "inverted")
_OWN: tuple[PerturbationPart, ...] = ("units", "baseline")
_CHANCE = ("exact", "random", "inverted")
METRICS = (
    MetricSpec(comprehensiveness, needs="probe", best=None, span=_ANY, claims=_LADDER),
    MetricSpec(sufficiency, needs="probe", best=None, span=_ANY, better="lower", claims=_LADDER),
    MetricSpec(irof, needs="probe", best=1.0, span=(-torch.inf, 1.0), claims=_CHANCE, ignores=_OWN),
    MetricSpec(road, needs="probe", best=None, span=_ANY, claims=_CHANCE, ignores=_OWN),
)
