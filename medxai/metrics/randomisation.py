"""Sanity checks: a map that survives the loss of what the network learned explains something else.

Weights are drawn anew by each module's own initialiser, running statistics of normalisation layers included, on a
copy. Maps are compared raw, as the method returns them, on the image grid (Adebayo et al. 2018).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, nan
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor, nn

from medxai.core.target import ClassScore
from medxai.metrics.similarity import SIMILARITIES, pearson, random_pairs, spearman, ssim
from medxai.metrics.spec import MetricSpec, Undefined
from medxai.metrics.trial import Trial
from medxai.model.guard import seeded, untouched
from medxai.shapes import Images, Maps

Order = Literal["cascading", "independent"]


@dataclass(frozen=True)
class Stage:
    """After the weights of `modules` are lost (in a cascade, of those before too): each similarity to the first map.

    Means over the images whose maps can be compared, `compared` of them; NaN where none can.
    """

    modules: tuple[str, ...]
    similarity: dict[str, float]
    compared: int


def execution_order(model: nn.Module, images: Images) -> tuple[str, ...]:
    """The modules that own parameters, in the order in which a forward pass finishes them.

    What runs without being called (weights used by name, as in attention) stands where the module that holds it
    finishes.
    """
    names = {module: name for name, module in model.named_modules()}
    owners = [module for module in names if next(module.parameters(recurse=False), None) is not None]
    finished: list[nn.Module] = []
    handles = [module.register_forward_hook(lambda m, _in, _out: finished.append(m)) for module in names]
    try:
        with untouched(model, images.device) as network:
            network(images[:1].float())
    finally:
        for handle in handles:
            handle.remove()
    seen: dict[nn.Module, None] = {}
    for module in finished:
        for inner in module.modules():
            if inner in owners and (inner is module or inner not in finished):
                seen.setdefault(inner)
    return tuple(names[module] for module in seen)


def randomise(module: nn.Module) -> None:
    """Draw the module's own parameters anew by its initialiser; one without draws noise of the same spread."""
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if reset is not None:
        reset()
        return
    for parameter in module.parameters(recurse=False):
        spread = float(parameter.detach().std()) if parameter.numel() > 1 else 0.0
        nn.init.normal_(parameter, 0.0, spread or 0.02)


def randomised(trial: Trial, order: Order = "cascading") -> Iterator[tuple[tuple[str, ...], nn.Module]]:
    """The network after each stage of the loss, from the output to the input in `trial.stages` equal parts."""
    network = trial.copy()
    top_down = execution_order(network, trial.images)[::-1]
    count = min(trial.stages, len(top_down))
    edges = [round(i * len(top_down) / count) for i in range(count + 1)]
    for number, (start, stop) in enumerate(pairwise(edges)):
        if order == "independent":
            network = trial.copy()
        with seeded(trial.seed * 1_000_003 + number, trial.images.device):
            for name in top_down[start:stop]:
                randomise(network.get_submodule(name))
        yield top_down[start:stop], network


def weight_randomisation(trial: Trial, order: Order = "cascading") -> tuple[Stage, ...]:
    """The similarity of the maps to themselves as the network forgets, stage by stage."""
    return tuple(
        _stage(modules, trial.maps, trial.explain(trial.images, network))
        for modules, network in randomised(trial, order)
    )


def smooth_randomisation(trial: Trial, order: Order = "cascading") -> tuple[Stage, ...]:
    """The same of maps averaged over `trial.draws` noisy copies of each image (smooth MPRT, Hedstroem et al. 2024).

    The noise is uniform within `trial.radius` of the image's range; the paper uses 50 draws.
    """
    first = _smooth(trial, trial.model)
    return tuple(_stage(modules, first, _smooth(trial, network)) for modules, network in randomised(trial, order))


def histogram_entropy(values: Tensor, bins: int = 100) -> float:
    """Entropy in nats of the histogram of |values| between their extremes, `bins` equal bins; NaN of what has NaN."""
    if not bool(values.isfinite().all()):
        return nan
    flat = values.detach().double().cpu().flatten().abs()
    counts = torch.histc(flat, bins) / flat.numel()
    return float(-torch.special.xlogy(counts, counts).sum())


def cascading_ssim(trial: Trial) -> float:
    """Mean SSIM of map and map of ever fewer trained layers, from the output down: low is good."""
    return _mean(trial, weight_randomisation(trial), "ssim")


def cascading_spearman(trial: Trial) -> float:
    """Mean rank correlation of map and map of ever fewer trained layers, from the output down: near 0 is good."""
    return _mean(trial, weight_randomisation(trial), "spearman")


def independent_ssim(trial: Trial) -> float:
    """Mean SSIM of map and map with one part of the layers untrained: low is good."""
    return _mean(trial, weight_randomisation(trial, "independent"), "ssim")


def independent_spearman(trial: Trial) -> float:
    """Mean rank correlation of map and map with one part of the layers untrained: near 0 is good."""
    return _mean(trial, weight_randomisation(trial, "independent"), "spearman")


def smooth_mprt(trial: Trial) -> float:
    """Mean rank correlation, as cascading, of maps averaged over noisy copies of the image (Hedstroem et al. 2024)."""
    return _mean(trial, smooth_randomisation(trial), "spearman")


def efficient_mprt(trial: Trial) -> float:
    """(C(untrained) - C(trained)) / C(trained), C the histogram entropy of the map (Hedstroem et al. 2024).

    Mean over images; a faithful map grows more complex as the network forgets: high is good.
    """
    *_, (_, network) = randomised(trial)
    before = [histogram_entropy(one) for one in trial.maps]
    after = [histogram_entropy(one) for one in trial.explain(trial.images, network)]
    rises = ((late - early) / early for early, late in zip(before, after, strict=True) if early > 0)
    return trial.mean(rises, "the map of the untrained network is degenerate")


def randomisation_margin(trial: Trial) -> float:
    """Mean SSIM of pairs of different images' maps, less that of map and map of the untrained network.

    Above 0 the trained weights matter: the untrained network's map is less alike to the trained one's than two
    unrelated maps are (Arun et al. 2021). Undefined for fewer than two maps.
    """
    if len(trial.images) < 2:
        return Undefined("pairs need at least two images")
    pairs = random_pairs(trial.maps, ssim, seed=trial.seed)
    last = [value for value in untrained_ssim(trial) if not isnan(value)]
    if not pairs or not last:
        return Undefined(trial.silent or "the map of the untrained network is degenerate")
    return fmean(pairs) - fmean(last)


def untrained_ssim(trial: Trial) -> list[float]:
    """SSIM of each image's map and its map by the network after all its weights are lost."""
    *_, (_, network) = randomised(trial)
    return [ssim(one, other) for one, other in zip(trial.maps, trial.explain(trial.images, network), strict=True)]


def class_sensitivity(trial: Trial) -> float:
    """Rank correlation of the maps of the likeliest and the least likely class, mean over images: low is good.

    Rebuffi et al. 2020 (there not said which correlation). A method blind to the class scores 1.
    """
    output = trial.output(trial.images)
    if output.ndim != 2 or output.shape[1] < 2:
        return Undefined("the output is no table of classes")
    found = []
    for image, scores in zip(trial.images, output, strict=True):
        most, least = (ClassScore(int(index)) for index in (scores.argmax(), scores.argmin()))
        found.append(spearman(*(trial.explain(image[None], target=goal)[0] for goal in (most, least))))
    return trial.mean(found, "no map of either class says anything")


def _mean(trial: Trial, stages: Sequence[Stage], measure: str) -> float:
    return trial.mean((s.similarity[measure] for s in stages), "no map of a randomised network says anything")


def _stage(modules: tuple[str, ...], first: Maps, second: Maps) -> Stage:
    pairs = [pair for pair in zip(first, second, strict=True) if not isnan(pearson(*pair))]
    means = {name: fmean(alike(*pair) for pair in pairs) if pairs else nan for name, alike in SIMILARITIES.items()}
    return Stage(modules, means, len(pairs))


def _smooth(trial: Trial, model: nn.Module) -> Maps:
    total = torch.stack([trial.explain(trial.nearby(draw), model) for draw in range(trial.draws)])
    return total.nanmean(0)


METRICS = (
    MetricSpec(cascading_ssim, needs="method", best=None, span=(-1.0, 1.0), better="lower"),
    MetricSpec(cascading_spearman, needs="method", best=None, span=(-1.0, 1.0), better="lower"),
    MetricSpec(independent_ssim, needs="method", best=None, span=(-1.0, 1.0), better="lower"),
    MetricSpec(independent_spearman, needs="method", best=None, span=(-1.0, 1.0), better="lower"),
    MetricSpec(smooth_mprt, needs="method", best=None, span=(-1.0, 1.0), better="lower"),
    MetricSpec(efficient_mprt, needs="method", best=None, span=(-1.0, torch.inf)),
    MetricSpec(randomisation_margin, needs="method", best=None, span=(-2.0, 2.0)),
    MetricSpec(class_sensitivity, needs="method", best=None, span=(-1.0, 1.0), better="lower"),
)
