"""What `--units` and `--baseline` mean: what faithfulness removes at once, and what stands in its place."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite
from typing import TypeVar

from medxai.errors import MedxaiError, UsageError
from medxai.io.options import ReadOptions
from medxai.io.read import read_volume
from medxai.io.recipe import Recipe
from medxai.metrics.curves import DEFAULT, Perturbation
from medxai.metrics.imputation import Baseline, Blur, Constant, HealthyPatch, Mean, Reference
from medxai.metrics.road import NoisyLinear
from medxai.metrics.units import Cubes, Partition, Supervoxels, Voxels

UNITS = "voxels, cubes:8 (of 8 mm), cubes:8v (of 8 voxels) or supervoxels:200"
BASELINES = (
    "constant:0 or constant:0,1 (each channel, as the network sees it), mean (of each channel), blur:10 (mm), blur:3v "
    "(voxels), road (noisy linear imputation), patch:10,20,30/8,8,8 (healthy tissue: corner and size in prepared "
    "voxels) or image:FILE (the mean of a cohort, say; prepared by the recipe)"
)
Part = TypeVar("Part", Partition, Baseline)


def parse_perturbation(units: str | None, baseline: str | None, recipe: Recipe, options: ReadOptions) -> Perturbation:
    """The perturbation that the two name, each as by default where it is None. Raises UsageError."""

    def image(path: str) -> Baseline:
        return Reference(recipe.apply(read_volume(path, options=options)).images[0])

    found = DEFAULT
    if units is not None:
        found = replace(found, partition=_parsed("--units", units, _UNITS, UNITS))
    if baseline is not None:
        found = replace(found, baseline=_parsed("--baseline", baseline, {**_BASELINES, "image": image}, BASELINES))
    return found


def _parsed(option: str, text: str, kinds: Mapping[str, Callable[[str], Part]], grammar: str) -> Part:
    kind, _, rest = text.partition(":")
    try:
        return kinds[kind](rest)
    except MedxaiError:
        raise
    except (ValueError, KeyError) as error:
        raise UsageError(f"This {option} cannot be read.", expected=grammar, found=repr(text)) from error


def _length(text: str) -> float:
    length = float(text)
    if not (isfinite(length) and length > 0):
        raise ValueError(text)
    return length


def _cubes(rest: str) -> Partition:
    return Cubes(_length(rest.removesuffix("v")), "voxel" if rest.endswith("v") else "mm")


def _supervoxels(rest: str) -> Partition:
    return Supervoxels(int(_length(rest)))


def _constant(rest: str) -> Baseline:
    values = tuple(float(value) for value in rest.split(","))
    return Constant(values if len(values) > 1 else values[0])


def _blur(rest: str) -> Baseline:
    return Blur(_length(rest.removesuffix("v")), "voxel" if rest.endswith("v") else "mm")


def _patch(rest: str) -> Baseline:
    corner, size = (tuple(int(number) for number in part.split(",")) for part in rest.split("/"))
    if len(corner) != len(size):
        raise ValueError(rest)
    return HealthyPatch(corner, size)


_UNITS: Mapping[str, Callable[[str], Partition]] = {
    "voxels": lambda _rest: Voxels(),
    "cubes": _cubes,
    "supervoxels": _supervoxels,
}
_BASELINES: Mapping[str, Callable[[str], Baseline]] = {
    "constant": _constant,
    "mean": lambda _rest: Mean(),
    "blur": _blur,
    "road": lambda _rest: NoisyLinear(),
    "patch": _patch,
}
