"""A saliency beside the model that it explains: metrics that ask the model, or the method, again."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from medxai.core.geometry import Geometry
from medxai.core.protocols import Attributor
from medxai.core.resample import inside, read_on
from medxai.core.saliency import Saliency
from medxai.core.target import ChannelScore, NeuronScore, RegressionScore, ReSTScore, Target
from medxai.core.volume import Mask, Volume
from medxai.errors import GeometryError, UsageError
from medxai.evaluation.case import degenerate
from medxai.evaluation.presets import asked
from medxai.evaluation.question import groups, put
from medxai.evaluation.score import Score
from medxai.io.recipe import Recipe
from medxai.metrics.chance import noise
from medxai.metrics.curves import DEFAULT, Perturbation
from medxai.metrics.imputation import Reference
from medxai.metrics.intermodel import InterModel, inter_model
from medxai.metrics.probe import Classes, Probe
from medxai.metrics.spec import Undefined, reason
from medxai.metrics.trial import Trial
from medxai.model.device import pick_device
from medxai.model.forward import Forward
from medxai.model.guard import untouched
from medxai.model.scoring import Answers, Link, Scorer
from medxai.model.tap import Output, tapped
from medxai.shapes import MaskArray

_OWN_UNIT = (RegressionScore, ReSTScore, ChannelScore, NeuronScore)


@dataclass(frozen=True, eq=False)
class Asking:
    """The model, what it is asked (`target`, after `link`), how the image is prepared, and the method if it is judged.

    `link` is "softmax" where classes exclude each other, "sigmoid" where each stands alone, "identity" for logits, for
    regression, and for models that answer probabilities. Logits do not tell which, so without it only a target in a
    unit of its own is asked. `perturbation` says how faithfulness removes and what it puts there, `output` which part
    of the model's output is read, as in `medxai.explain`.
    """

    model: nn.Module
    target: Target
    recipe: Recipe
    method: Attributor | None = None
    link: Link | None = None
    perturbation: Perturbation = DEFAULT
    output: Output = None
    device: str = "auto"
    seed: int = 0

    @property
    def own_unit(self) -> Link | None:
        """The link of a target in a unit of its own; None where classes may or may not exclude each other."""
        return "identity" if isinstance(self.target, _OWN_UNIT) else None

    @property
    def scale(self) -> Link:
        """`link`, or that of a target in a unit of its own. Raises UsageError where neither decides."""
        link = self.link or self.own_unit
        if link is None:
            raise UsageError(
                "Nothing says how this output becomes a score.",
                expected='link "softmax" where classes exclude each other, "sigmoid" where each stands alone, '
                '"identity" for logits, probabilities and regression',
                found=f"{self.target} without a link",
                remedy="State it: Asking(..., link=...), or --link.",
            )
        return link


def probe_of(saliency: Saliency, image: Volume, asking: Asking, domain: Mask | None = None) -> Probe:
    """The probe of a saliency: the map read on the model's grid, with the image as the model sees it.

    What the target takes from the intact image (a predicted region, the nearest classes) is fixed there, see
    `medxai.evaluation.question`. A `domain` (body, lungs) bounds what is removed: where its linear interpolation is one
    half or more. Raises GeometryError where one of domain and image is in millimetres and the other is not, or a
    `Reference` lies on another grid than the prepared image, UsageError where nothing says how the output becomes a
    score, and what the recipe raises.
    """
    prepared = asking.recipe.apply(image)
    if isinstance(asking.perturbation.baseline, Reference):
        asking.perturbation.baseline.refuse_elsewhere(prepared.geometry)
    images, link = prepared.images.to(pick_device(asking.device)), asking.scale
    network, forward = tapped(asking.model, asking.output, tuple(images.shape)), Forward()
    with untouched(network, images.device) as asked_of:
        intact = forward.on(asked_of)(images)
    goal = put(asking.target, intact, link)
    sides = groups(goal, intact)
    return Probe(
        saliency.on(prepared.geometry),
        images[0],
        Scorer(network, goal, link, forward),
        prepared.geometry.spacing_mm if prepared.geometry.units == "mm" else None,
        None if domain is None else _laid(domain, prepared.geometry),
        asking.perturbation,
        asking.seed,
        classes=None if sides is None else Classes(Answers(network, link, forward), *sides),
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
    network = tapped(asking.model, asking.output, tuple(batch.shape))
    return Trial(asking.method, network, batch, asking.target, seed=asking.seed, link=asking.link or asking.own_unit)


def compare_models(
    cases: Sequence[tuple[Volume, Sequence[Saliency]]], askings: Sequence[Asking], restore: bool = False
) -> InterModel:
    """Deletion (or insertion) between models, mean over images: each case is an image and every model's map of it.

    The maps stand in the order of `askings`. Give images on which all models are right. An image of which some model's
    map or curve says nothing is left out of all of the mean; `images` says how many are in it. Raises UsageError for
    one model, another number of maps, models whose recipes differ, and where no image is left.
    """
    areas = []
    for image, saliencies in cases:
        if len(saliencies) != len(askings):
            raise UsageError("One map per model.", expected=f"{len(askings)}", found=f"{len(saliencies)}")
        probes = [probe_of(one, image, asking) for one, asking in zip(saliencies, askings, strict=True)]
        found = inter_model(probes, restore)
        if all(one.status.ok for one in saliencies) and bool(found.area.isfinite().all()):
            areas.append(found.area)
    if not areas:
        raise UsageError("No image has a map of every model that says something.", found=f"{len(cases)} images")
    return InterModel(torch.stack(areas).mean(0), len(areas))


def evaluate_model(
    saliency: Saliency,
    image: Volume,
    asking: Asking,
    names: Sequence[str] | None = None,
    domain: Mask | None = None,
    preset: str = "basic",
) -> tuple[Score, ...]:
    """Score `saliency` by metrics that ask the model: faithfulness, and with a method sanity and robustness too.

    `names` picks rows of the catalogue that need a probe or a method; without it those of the preset, of which some
    need `asking.method`. Beside each faithfulness score stands that of a map of noise. A degenerate map gives NaN and
    the reason. Raises UsageError for a metric of another kind.
    """
    rows = asked(names, preset, asking.method is not None)
    needs = {row.needs for row in rows}
    probe = probe_of(saliency, image, asking, domain) if "probe" in needs else None
    blind = None if probe is None else probe.of(noise(probe.saliency, asking.seed))
    trial = trial_of([image], asking) if "method" in needs else None
    meaningless = degenerate(saliency)
    scores = []
    for row in rows:
        value = Undefined(meaningless) if meaningless else row.fn(probe if row.needs == "probe" else trial)
        chance = {"noise": float(row.fn(blind))} if row.needs == "probe" else {}
        scores.append(Score(row.name, float(value), chance, reason(value), row.unit, row.best))
    return tuple(scores)


def _laid(domain: Mask, grid: Geometry) -> MaskArray:
    if domain.geometry.units != grid.units:
        raise GeometryError("Domain and image must both state their pixel size, or neither.")
    return (read_on(domain.data.float(), domain.geometry, grid) >= 0.5) & inside(domain.geometry, grid)
