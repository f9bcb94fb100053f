"""What the network answers when it sees the image only through its map."""

from collections.abc import Sequence
from math import isnan, nan
from statistics import harmonic_mean

import torch

from medxai.metrics.probe import Probe
from medxai.metrics.similarity import pearson
from medxai.metrics.spec import MetricSpec, PerturbationPart, Undefined, finite
from medxai.metrics.sufficiency import road
from medxai.metrics.trial import Trial
from medxai.shapes import Images, Map, Maps


def soft_mask(values: Map) -> Map:
    """[S]+ / max S in [0, 1], 0 where the model never looked; zero for a map without a positive value."""
    positive = values.nan_to_num(nan=0.0).clamp(min=0)
    return positive / positive.max().clamp(min=torch.finfo(positive.dtype).tiny)


def veiled(probe: Probe) -> float:
    """The score of S x + (1 - S) x0, S the soft mask of the map and x0 the probe's baseline in the field."""
    image = probe.image
    blank = probe.fill(probe.scene.field[None])[0]
    shown = soft_mask(probe.saliency).to(image)
    mixed = torch.where(probe.scene.field.to(image.device), shown * image + (1 - shown) * blank, image)
    return float(probe.score(mixed[None])[0])


def average_drop(probe: Probe) -> float:
    """[p - p(x S)]+ / p for the image seen through its map: low is good, but large maps win (Chattopadhay et al. 2018).

    Read it beside `shown_share`. Undefined for scores that are not positive.
    """
    change = _change(probe)
    return change if isnan(change) else max(0.0, -change) / probe.intact


def average_increase(probe: Probe) -> float:
    """1 where the image seen through its map scores higher than the image, else 0 (Chattopadhay et al. 2018)."""
    change = _change(probe)
    return change if isnan(change) else float(change > 0)


def average_gain(probe: Probe) -> float:
    """[p(x S) - p]+ / (1 - p): the part of the missing probability that the map restores (Zhang et al. 2024)."""
    change = _change(probe)
    if not isnan(change) and probe.intact >= 1:
        return Undefined("the score leaves nothing to gain")
    return change if isnan(change) else max(0.0, change) / (1 - probe.intact)


def shown_share(probe: Probe) -> float:
    """Mean of the soft mask over the field: how much of the image `average_drop` lets through."""
    why = _unshown(probe)
    return Undefined(why) if why else float(soft_mask(probe.saliency)[probe.scene.field].double().mean())


def adcc(trial: Trial) -> float:
    """Harmonic mean of coherency, 1 - complexity and 1 - average drop, mean over images (Poppi et al. 2021).

    Coherency (r + 1) / 2, r the correlation of the maps of x and of x S; complexity the mean of S; S the soft mask, its
    baseline zero. 0 where one of the three is 0.
    """
    masks, seen = _veiled(trial)
    before, after = trial.scores(trial.images).tolist(), trial.scores(seen).tolist()
    kept = [finite(a / b) if b > 0 else nan for b, a in zip(before, after, strict=True)]
    return _harmonic(trial, masks, seen, kept)


def arcc(trial: Trial) -> float:
    """Harmonic mean of coherency, 1 - complexity and twice ROAD within [0, 1], mean over images (pytorch-grad-cam).

    As `adcc`, with ROAD (least less most relevant first, halved) in place of the drop, which large maps win.
    """
    masks, seen = _veiled(trial)
    probes = (
        Probe(one, image, trial.scores, seed=trial.seed) for one, image in zip(trial.maps, trial.images, strict=True)
    )
    return _harmonic(trial, masks, seen, [2 * road(probe) for probe in probes])


def _veiled(trial: Trial) -> tuple[Maps, Images]:
    masks = torch.stack([soft_mask(one) for one in trial.maps])
    return masks, trial.images * masks[:, None].to(trial.images)


def _harmonic(trial: Trial, masks: Maps, seen: Images, faithful: Sequence[float]) -> float:
    """Mean over images of the harmonic mean of coherency, 1 - complexity and `faithful`, each cut to [0, 1]."""
    found = []
    for first, second, mask, third in zip(trial.maps, trial.explain(seen), masks, faithful, strict=True):
        parts = ((pearson(first, second) + 1) / 2, 1 - float(mask.mean()), third)
        defined = bool(mask.any()) and not any(isnan(part) for part in parts)
        found.append(harmonic_mean([min(1.0, max(0.0, part)) for part in parts]) if defined else nan)
    return trial.mean(found, "all three parts are defined of no image")


def _unshown(probe: Probe) -> str:
    """Why the map lets nothing of the image through, or ""."""
    return probe.silent or ("" if bool((probe.saliency[probe.scene.field] > 0).any()) else "no positive saliency")


def _change(probe: Probe) -> float:
    """p(x S) - p of the image seen through its map, or why there is none."""
    why = _unshown(probe) or probe.unanswered or ("" if probe.intact > 0 else "the score is not positive")
    return Undefined(why) if why else finite(veiled(probe) - probe.intact)


_VEILS: tuple[PerturbationPart, ...] = ("units",)
_DROP = ("exact", "blurred", "shifted")
METRICS = (
    MetricSpec(
        average_drop, needs="probe", best=0.0, span=(0.0, torch.inf), better="lower", claims=_DROP, ignores=_VEILS
    ),
    MetricSpec(average_increase, needs="probe", best=1.0, span=(0.0, 1.0), ignores=_VEILS),
    MetricSpec(average_gain, needs="probe", best=1.0, span=(0.0, 1.0), ignores=_VEILS),
    MetricSpec(shown_share, needs="probe", best=None, span=(0.0, 1.0), better="neither", ignores=("units", "baseline")),
    MetricSpec(adcc, needs="method", best=1.0, span=(0.0, 1.0)),
    MetricSpec(arcc, needs="method", best=1.0, span=(0.0, 1.0)),
)
