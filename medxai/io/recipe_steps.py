"""The steps of a recipe: MONAI transforms, built from YAML or taken from a Compose, checked before they run."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from torch import Tensor

from medxai.errors import RecipeError
from medxai.io.recipe_record import recorded, settings
from medxai.io.recipe_rules import IN_PLACE, READING, check_name, check_settings
from medxai.shapes import Affine

IMAGE = "image"
FAILURES = (ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError)


@dataclass(frozen=True, eq=False)
class Step:
    """One transform of images, or of dictionaries that hold one under "image"; `in_place` ones may move no voxel."""

    name: str
    transform: Any
    parameters: Mapping[str, Any]
    keyed: bool = False
    notice: str = ""
    in_place: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        shape, affine = tuple(image.shape[1:]), _affine(image)
        result = self.transform({IMAGE: image})[IMAGE] if self.keyed else self.transform(image)
        if not isinstance(result, Tensor) or not hasattr(result, "affine"):
            raise RecipeError(
                f"{self.name} lost the affine of the image.",
                expected="a MetaTensor",
                found=type(result).__name__,
                remedy="Keep meta tracking on (track_meta=True, image_only=True).",
            )
        if self.in_place and (tuple(result.shape[1:]) != shape or not np.array_equal(_affine(result), affine)):
            raise RecipeError(
                f"{self.name} is to change values only, and it moved voxels.",
                expected=f"the same affine and {shape} voxels",
                found=f"{tuple(result.shape[1:])} voxels, affine {_affine(result).tolist()}",
                remedy="Check its parameters.",
            )
        return result


def step_from_yaml(entry: object) -> Step:
    """The step of one YAML entry: a transform's name, or {name: {parameter: value}}."""
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise RecipeError(
            "A step of a recipe names one transform.",
            expected="- Name: {parameter: value, ...}",
            found=f"{entry}",
        )
    [(name, parameters)] = entry.items()
    parameters = {} if parameters is None else parameters
    if not isinstance(name, str) or not isinstance(parameters, Mapping):
        raise RecipeError(
            f"The parameters of {name} are no mapping.", expected="{parameter: value, ...}", found=f"{parameters}"
        )
    check_name(name)
    given = {str(key): value for key, value in parameters.items()}
    transform = _built(name, given)
    check_settings(name, transform, _mode(transform, keyed=False))
    return _step(name, transform, recorded(given))


def steps_from_transforms(transforms: Sequence[Any], trusted: Sequence[str]) -> tuple[Step, ...]:
    """The steps of MONAI transforms (array or dictionary, nested Compose unpacked); the given objects stay untouched.

    Reading (LoadImage) is left out: a recipe begins with voxels. Of a dictionary only "image" is followed.
    """
    steps: list[Step] = []
    for transform in transforms:
        inner = getattr(transform, "transforms", None)
        if type(transform).__name__ == "Compose" and inner is not None:
            steps.extend(steps_from_transforms(inner, trusted))
        elif (step := _taken(transform, trusted)) is not None:
            steps.append(step)
    return tuple(steps)


def _built(name: str, parameters: Mapping[str, Any]) -> Any:
    import monai.transforms

    kind = getattr(monai.transforms, name)
    known = [p for p in inspect.signature(kind).parameters if p not in {"args", "kwargs", "pad_kwargs", "lazy"}]
    unknown = [key for key in parameters if key not in known]
    if unknown:
        near = get_close_matches(unknown[0], known, n=3)
        raise RecipeError(
            f"{name} has no parameter {unknown[0]!r}.",
            expected=", ".join(known) or "no parameters",
            remedy=f"Did you mean {' or '.join(near)}?" if near else "",
        )
    # MONAI warns about its own changed default unless the letters are given.
    letters = {"labels": (("L", "R"), ("P", "A"), ("I", "S"))} if name == "Orientation" else {}
    try:
        return kind(**{**letters, **parameters})
    except FAILURES as error:
        raise RecipeError(f"{name} does not accept these parameters: {error}", found=f"{dict(parameters)}") from error


def _taken(transform: Any, trusted: Sequence[str]) -> Step | None:
    from monai.transforms import MapTransform

    kind = type(transform)
    keyed = isinstance(transform, MapTransform)
    name = kind.__name__[:-1] if keyed and kind.__name__.endswith("d") else kind.__name__
    ours = kind.__module__.startswith("monai.transforms.")
    if ours and name in READING:
        return None
    if keyed and IMAGE not in transform.keys:
        return None
    own = copy.deepcopy(transform)
    if keyed:
        own.allow_missing_keys = True
    if {name, kind.__name__} & set(trusted):
        return _step(name, own, {}, keyed, trusted=True)
    if not ours:
        raise RecipeError(
            f"{kind.__name__} is not a transform of MONAI, so nobody knows how it moves voxels.",
            remedy=f"If it keeps the affine true, say so: Recipe.from_compose(..., trusted=({kind.__name__!r},)).",
        )
    check_name(name)
    check_settings(name, _array(own) if keyed else own, _mode(own, keyed))
    return _step(name, own, settings(own), keyed)


def _mode(transform: Any, keyed: bool) -> object:
    mode = getattr(transform, "mode", None)
    return mode[transform.keys.index(IMAGE)] if keyed and isinstance(mode, tuple) else mode


def _step(name: str, transform: Any, parameters: Mapping[str, Any], keyed: bool = False, trusted: bool = False) -> Step:
    notices = [f"{name}: its affine is taken on the user's word"] if trusted else []
    if getattr(transform, "lazy", False):
        transform.lazy = False
        notices.append("lazy resampling switched off")
    if name == "Affine" and not keyed:
        transform.image_only = True
    return Step(name, transform, parameters, keyed, "; ".join(notices), name in IN_PLACE and not trusted)


def _affine(image: Tensor) -> Affine:
    return np.asarray(image.affine, np.float64).copy()  # type: ignore[attr-defined]


def _array(transform: Any) -> Any:
    from monai.transforms import Transform

    return next((value for value in vars(transform).values() if isinstance(value, Transform)), transform)
