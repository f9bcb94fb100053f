"""What `--units` and `--baseline` mean: what faithfulness removes at once, and what stands in its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Generic, TypeVar

from medxai.errors import UsageError
from medxai.io.options import ReadOptions
from medxai.io.read import read_volume
from medxai.io.recipe import Recipe
from medxai.metrics.curves import DEFAULT, Perturbation
from medxai.metrics.imputation import Baseline, Blur, Constant, HealthyPatch, Mean, Reference
from medxai.metrics.road import NoisyLinear
from medxai.metrics.units import Cubes, Partition, Supervoxels, Voxels

Part = TypeVar("Part", Partition, Baseline)


@dataclass(frozen=True)
class Grammar(Generic[Part]):
    """What an option may say: words that stand alone, and kinds that take something after a colon."""

    option: str
    described: str
    words: Mapping[str, Part]
    kinds: Mapping[str, Callable[[str], Part]]

    def read(self, text: str) -> Part:
        """What the text names. Raises UsageError where it names nothing."""
        if text in self.words:
            return self.words[text]
        kind, _, rest = text.partition(":")
        try:
            return self.kinds[kind](rest)
        except (ValueError, KeyError) as error:
            raise UsageError(
                f"This {self.option} cannot be read.", expected=self.described, found=repr(text)
            ) from error


def parse_perturbation(units: str | None, baseline: str | None, recipe: Recipe, options: ReadOptions) -> Perturbation:
    """The perturbation that the two name, each as by default where it is None.

    Raises UsageError for what cannot be read, and what reading and preparing an image raises.
    """
    found = DEFAULT
    if units is not None:
        found = replace(found, partition=UNITS.read(units))
    if baseline is not None:
        kind, _, path = baseline.partition(":")
        other = kind == "image" and path
        found = replace(found, baseline=_image(path, recipe, options) if other else BASELINES.read(baseline))
    return found


def _image(path: str, recipe: Recipe, options: ReadOptions) -> Reference:
    prepared = recipe.apply(read_volume(path, options=options))
    return Reference(prepared.images[0], prepared.geometry)


def _length(text: str) -> float:
    length = float(text)
    if not (isfinite(length) and length > 0):
        raise ValueError(text)
    return length


def _cubes(rest: str) -> Partition:
    return Cubes(_length(rest.removesuffix("v")), "voxel" if rest.endswith("v") else "mm")


def _constant(rest: str) -> Baseline:
    values = tuple(float(value) for value in rest.split(","))
    return Constant(values if len(values) > 1 else values[0])


def _blur(rest: str) -> Baseline:
    return Blur(_length(rest.removesuffix("v")), "voxel" if rest.endswith("v") else "mm")


def _patch(rest: str) -> Baseline:
    corner, size = (tuple(int(number) for number in part.split(",")) for part in rest.split("/"))
    return HealthyPatch(corner, size)


UNITS: Grammar[Partition] = Grammar(
    "--units",
    "voxels, cubes:8 (of 8 mm), cubes:8v (of 8 voxels) or supervoxels:200",
    {"voxels": Voxels()},
    {"cubes": _cubes, "supervoxels": lambda rest: Supervoxels(int(rest))},
)
BASELINES: Grammar[Baseline] = Grammar(
    "--baseline",
    "constant:0 or constant:0,1 (each channel, as the network sees it), mean (of each channel), blur:10 (mm), blur:3v "
    "(voxels), road (noisy linear imputation), patch:10,20,30/8,8,8 (healthy tissue: corner and size in prepared "
    "voxels) or image:FILE (the mean of a cohort, say, on the grid of the image; prepared by the recipe)",
    {"mean": Mean(), "road": NoisyLinear()},
    {"constant": _constant, "blur": _blur, "patch": _patch},
)
