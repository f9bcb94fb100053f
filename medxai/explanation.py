"""A case, a model and a question become a saliency in the patient's own coordinates: geometry meets numerics here."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from importlib.metadata import version
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from medxai.attribution.tiled import Tiled
from medxai.core.layer import Layer
from medxai.core.protocols import Attribution, Attributor, Physical
from medxai.core.saliency import Provenance, Saliency
from medxai.core.target import Target
from medxai.core.volume import Case
from medxai.errors import CatalogError, NonFiniteError, refuse_other_kind
from medxai.io.recipe import Prepared, Recipe
from medxai.model.device import pick_device
from medxai.model.footprint import footprint
from medxai.model.guard import seeded
from medxai.model.layers import located, put, resolve_layer, stages
from medxai.model.load import weights_sha256
from medxai.model.soundness import (
    about_chance,
    about_precision,
    about_repairs,
    noticing_chance,
    refuse_batch_statistics,
)
from medxai.model.tap import Output, tapped
from medxai.model.trace import Trace, trace


@overload
def explain(
    model: nn.Module,
    case: Case,
    method: Attributor,
    target: Target,
    recipe: Recipe,
    *,
    device: str = "auto",
    seed: int = 0,
    output: Output = None,
    allow_stochastic: bool = False,
) -> Saliency: ...
@overload
def explain(
    model: nn.Module,
    case: Case,
    method: Attributor,
    target: Sequence[Target],
    recipe: Recipe,
    *,
    device: str = "auto",
    seed: int = 0,
    output: Output = None,
    allow_stochastic: bool = False,
) -> tuple[Saliency, ...]: ...
def explain(  # noqa: PLR0913 - what is explained, and three settings of the run
    model: nn.Module,
    case: Case,
    method: Attributor,
    target: Target | Sequence[Target],
    recipe: Recipe,
    *,
    device: str = "auto",
    seed: int = 0,
    output: Output = None,
    allow_stochastic: bool = False,
) -> Saliency | tuple[Saliency, ...]:
    """Where in `case` the model's score comes from, on the grid of the layer that was explained.

    Several targets share one forward pass and give one saliency each, in their order. They read the model's output, or
    the part of it that `output` names: a key, an index, a path of these, or Layer(name), what a layer emits. The model
    is left as it was found. A map that says nothing comes back with a degenerate status. Raises NonFiniteError where
    the score is NaN or infinite, and ModelError where the model does not fit the prepared image, normalises by its
    batch, or answers by chance, which `allow_stochastic` permits: the map is then that of one draw.
    """
    targets: Sequence[Target] = target if isinstance(target, Sequence) else (target,)
    _check(model, case, method, targets, recipe)
    place = pick_device(device)
    started = time.perf_counter()
    prepared = recipe.apply(case.image)
    images = prepared.images.to(place)
    shape = method.seen(tuple(images.shape)) if isinstance(method, Tiled) else tuple(images.shape)
    network = tapped(model, output, shape)
    refuse_batch_statistics(network)
    traced = trace(network, shape)
    with seeded(seed, place), noticing_chance(network) as drew:
        found = _resolved(method, traced, prepared).attribute(network, images, targets)
    chance = about_chance(network, images[tuple(map(slice, shape))], allow_stochastic) if drew() else ()
    shared = Provenance(
        method=_name(method),
        parameters=_parameters(method),
        model=f"{type(network).__module__}.{type(network).__qualname__}",
        recipe_name=recipe.name,
        recipe=recipe.description,
        weights_sha256=weights_sha256(network),
        input_sha256=case.image.digest,
        seed=seed,
        device=str(place),
        seconds=round(time.perf_counter() - started, 3),
        versions=_versions(),
        notices=(
            *(*case.image.notices, *prepared.notices, *traced.notices),
            *(*about_repairs(model), *about_precision(network), *chance),
        ),
    )
    placed = (
        _place(one, _told(goal, output), prepared, traced, shared) for one, goal in zip(found, targets, strict=True)
    )
    results = tuple(replace(saliency, source=case.image.geometry) for saliency in placed)
    return results if isinstance(target, Sequence) else results[0]


def _name(method: Attributor) -> str:
    name = type(method).__name__
    return f"{name}({type(method.method).__name__})" if isinstance(method, Tiled) else name


def _told(target: Target, output: Output) -> str:
    name = repr(target) if is_dataclass(target) else f"{type(target).__qualname__}, not a named target"
    if output is None:
        return name
    steps = output if isinstance(output, tuple) else (output,)
    kind = "layer" if isinstance(output, Layer) else "output"
    return f"{name} of {kind} {'.'.join(map(str, steps))}"


def _place(found: Attribution, target: str, prepared: Prepared, traced: Trace, shared: Provenance) -> Saliency:
    if not bool(found.scores.isfinite().all()):
        raise NonFiniteError(
            "The model answered a score that is not finite, so there is nothing to explain.",
            found=f"{found.scores.tolist()}",
            remedy="Check the intensity range that the recipe produces, and the weights.",
            code="X18",
        )
    grid, remarks = prepared.geometry, found.notices
    if found.layer and not found.footprint:
        remarks = (*remarks, *resolve_layer(traced, found.layer)[1])
    if found.layer or found.footprint:
        cells = found.footprint or footprint(traced, found.layer)
        grid = grid.coarse(cells.start, cells.jump, found.maps.shape[1:])
    provenance = replace(
        shared,
        target=target,
        layer=found.layer,
        score=float(found.scores[0]),
        notices=tuple(dict.fromkeys((*shared.notices, *remarks))),
        details={name: _plain(values[0]) for name, values in found.details.items()},
    )
    data, status = found.maps[0].detach().to("cpu", torch.float32), found.status[0]
    data = data if status.ok else data.nan_to_num(0, 0, 0)
    return Saliency(data, grid, prepared.geometry, provenance, status, amount=found.amount)


def _plain(value: Tensor) -> float | tuple[float, ...]:
    return tuple(value.flatten().tolist()) if value.ndim else float(value)


def _check(model: nn.Module, case: Case, method: Attributor, targets: Sequence[Target], recipe: Recipe) -> None:
    made = isinstance(method, Attributor) and not isinstance(method, type)
    asked = bool(targets) and all(callable(target) for target in targets)
    refuse_other_kind("model", isinstance(model, nn.Module), "a torch.nn.Module", model)
    refuse_other_kind("case", isinstance(case, Case), "a Case, as load_case(path)", case)
    refuse_other_kind("method", made, "an instance, as GradCAM()", method)
    refuse_other_kind("target", asked, "a target, as ClassScore(3), or several", targets)
    refuse_other_kind("recipe", isinstance(recipe, Recipe), "a Recipe, as Recipe.from_yaml(path)", recipe)


def _resolved(method: Attributor, traced: Trace, prepared: Prepared) -> Attributor:
    """The method with its layers looked up, known to have a place in the image, and its millimetres in voxels."""
    if isinstance(method, Tiled):
        inner: Any = _resolved(method.method, traced, prepared)
        return replace(method, method=inner)
    given = _layers(method)
    changed: Any = method
    resolved: Attributor = replace(changed, **{name: _located(traced, value) for name, value in given.items()})
    return resolved.in_voxels(lambda: prepared.geometry.spacing_mm) if isinstance(resolved, Physical) else resolved


def _layers(method: Any) -> dict[str, Any]:
    """The fields of a method that name layers."""
    return {name: getattr(method, name) for name in ("layer", "layers") if hasattr(method, name)}


def _located(traced: Trace, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_located(traced, one) for one in value or stages(traced))
    return put(traced, value) if isinstance(value, Layer) else located(traced, value)


def _parameters(method: Any) -> Mapping[str, Any]:
    if not is_dataclass(method):
        raise CatalogError(
            f"{type(method).__name__} cannot state its parameters.", expected="a frozen dataclass, as every method is"
        )
    return {field.name: _stated(getattr(method, field.name)) for field in fields(method)}


def _stated(value: Any) -> Any:
    """A parameter in plain values: a method with its name; what holds tensors, as statistics, as its own summary."""
    if isinstance(value, tuple):
        return tuple(map(_stated, value))
    if not is_dataclass(value):
        return value
    if any(isinstance(leaf, Tensor) for leaf in tree_leaves([getattr(value, field.name) for field in fields(value)])):
        return repr(value)
    stated = _parameters(value)
    return {"name": type(value).__name__, **stated} if isinstance(value, Attributor) else stated


def _versions() -> Mapping[str, str]:
    packages = {name: version(name) for name in ("medxai-toolkit", "torch", "monai", "numpy", "nibabel", "pydicom")}
    return {"python": platform.python_version(), **packages}
