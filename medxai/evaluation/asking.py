"""A saliency beside the model that it explains: metrics that ask the model, or the method, again."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from medxai.catalog import find, metrics
from medxai.core.protocols import Attributor
from medxai.core.saliency import Saliency
from medxai.core.target import Target
from medxai.core.volume import Mask, Volume
from medxai.errors import GeometryError, UsageError
from medxai.evaluation.score import Score
from medxai.io.recipe import Prepared, Recipe
from medxai.metrics.chance import noise
from medxai.metrics.curves import DEFAULT, Perturbation
from medxai.metrics.probe import Probe
from medxai.metrics.spec import MetricSpec, Undefined, reason
from medxai.metrics.trial import Trial
from medxai.model.device import pick_device
from medxai.model.scoring import Link, Scorer

FAITHFULNESS = ("deletion", "insertion", "comprehensiveness", "sufficiency", "faithfulness_correlation")
SANITY = ("cascading_ssim", "cascading_spearman", "class_sensitivity", "max_sensitivity", "flip_equivariance")


@dataclass(frozen=True, eq=False)
class Asking:
    """The model, what it is asked (`target`, after `link`), how the image is prepared, and the method if it is judged.

    `link` is "softmax" where classes exclude each other, "sigmoid" where each stands alone, "identity" for logits, for
    regression, and for models that answer probabilities. `perturbation` says how faithfulness removes and what it puts
    there.
    """

    model: nn.Module
    target: Target
    recipe: Recipe
    method: Attributor | None = None
    link: Link = "softmax"
    perturbation: Perturbation = DEFAULT
    device: str = "auto"
    seed: int = 0


def probe_of(saliency: Saliency, image: Volume, asking: Asking, domain: Mask | None = None) -> Probe:
    """The probe of a saliency: the map read on the model's grid, with the image as the model sees it.

    A `domain` on that grid (body, lungs) bounds what is removed. Raises GeometryError where it lies on another grid,
    and what the recipe raises.
    """
    prepared = asking.recipe.apply(image)
    if domain is not None and not domain.geometry.same(prepared.geometry):
        raise GeometryError(
            "The domain lies on another grid than the model's.",
            expected=f"{prepared.geometry}",
            found=f"{domain.geometry}",
        )
    return Probe(
        saliency.on(prepared.geometry),
        prepared.images[0].to(pick_device(asking.device)),
        Scorer(asking.model, asking.target, asking.link),
        _spacing(prepared),
        None if domain is None else domain.data,
        asking.perturbation,
        asking.seed,
    )


def trial_of(images: Sequence[Volume], asking: Asking) -> Trial:
    """The trial of a method on images that the recipe brings to one shape.

    Raises UsageError where no method is given, or the prepared images differ in shape.
    """
    if asking.method is None:
        raise UsageError("No method to ask again.", expected="Asking(..., method=GradCAM())")
    prepared = [asking.recipe.apply(image).images for image in images]
    if len({tuple(one.shape) for one in prepared}) != 1:
        raise UsageError("The images of a trial have one shape.", found=f"{[tuple(one.shape) for one in prepared]}")
    batch = torch.cat(prepared).to(pick_device(asking.device))
    return Trial(asking.method, asking.model, batch, asking.target, seed=asking.seed, link=asking.link)


def evaluate_model(
    saliency: Saliency, image: Volume, asking: Asking, names: Sequence[str] | None = None, domain: Mask | None = None
) -> tuple[Score, ...]:
    """Score `saliency` by metrics that ask the model: faithfulness, and with a method sanity and robustness too.

    `names` picks rows of the catalogue that need a probe or a method; without it `FAITHFULNESS` (some 200 images, and
    as many for the noise), and `SANITY` where `asking` has a method. Beside each faithfulness score stands that of a
    map of noise. A degenerate map gives NaN and the reason. Raises UsageError for a metric of another kind.
    """
    rows = _rows(names, asking)
    probe = probe_of(saliency, image, asking, domain)
    blind = probe.of(noise(probe.saliency, asking.seed))
    trial = trial_of([image], asking) if any(row.needs == "method" for row in rows) else None
    degenerate = "" if saliency.status.ok else f"degenerate map: {saliency.status.reason}"
    scores = []
    for row in rows:
        asked = probe if row.needs == "probe" else trial
        value = Undefined(degenerate) if degenerate else row.fn(asked)
        chance = {"noise": float(row.fn(blind))} if row.needs == "probe" else {}
        scores.append(Score(row.name, float(value), chance, reason(value), row.unit, row.best))
    return tuple(scores)


def _rows(names: Sequence[str] | None, asking: Asking) -> tuple[MetricSpec, ...]:
    wanted = (*FAITHFULNESS, *(SANITY if asking.method is not None else ())) if names is None else tuple(names)
    rows = tuple(find(metrics(), name) for name in wanted)
    for row in rows:
        if row.needs not in {"probe", "method"}:
            raise UsageError(f"{row.name!r} does not ask the model.", remedy="Use medxai.evaluate.")
    return rows


def _spacing(prepared: Prepared) -> tuple[float, ...] | None:
    return prepared.geometry.spacing_mm if prepared.geometry.units == "mm" else None
