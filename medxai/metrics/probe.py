"""A map beside the network that it explains: the one value that a metric of faithfulness is a function of."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from medxai.errors import GeometryError, UsageError
from medxai.metrics.curves import DEFAULT, Curve, Perturbation
from medxai.metrics.imputation import Fill
from medxai.metrics.scene import Image, Scene
from medxai.metrics.spec import finite, reason
from medxai.metrics.units import Chosen, Units
from medxai.model.scoring import held
from medxai.shapes import Images, Map, MaskArray, Scores

Ranks = Int[Tensor, " u"]
PerUnit = Float64[Tensor, " u"]
Answered = Float64[Tensor, "n k"]

ALPHAS = tuple(round(0.1 * i, 1) for i in range(1, 10))
"""Shares of the map that RFxG replaces."""


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes that a map was `asked` for, the `others` it was to tell them from, and a function that answers all.

    `answers` takes a batch (n, channel, *space) to a table (n, class), without gradients.
    """

    answers: Callable[[Images], Float[Tensor, "n k"]]
    asked: tuple[int, ...]
    others: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Probe:
    """One image and its map, voxel for voxel on the grid of the network's input, and the network as a function.

    `score` answers a batch (n, channel, *space) with one number per image, without gradients: a probability or a
    logit. Voxels where `saliency` is NaN or `domain` is False are never perturbed and count nowhere. `spacing` is in
    mm per axis, None where it is unknown. `classes` is for metrics that compare classes. Every random draw depends on
    `seed` alone, and no more than `batch` perturbed images exist at a time. What several metrics need (units, baseline,
    curves) is computed once.
    """

    saliency: Map
    image: Image
    score: Callable[[Images], Scores]
    spacing: tuple[float, ...] | None = None
    domain: MaskArray | None = None
    perturbation: Perturbation = DEFAULT
    seed: int = 0
    batch: int = 8
    classes: Classes | None = None

    def __post_init__(self) -> None:
        if self.domain is not None and self.domain.shape != self.saliency.shape:
            raise GeometryError(
                "Map and domain lie on one grid.",
                expected=f"{tuple(self.saliency.shape)}",
                found=f"{tuple(self.domain.shape)}",
            )
        _ = self.scene

    @cached_property
    def scene(self) -> Scene:
        """The image and what of it may be perturbed: seen by the model and inside the domain."""
        seen = ~self.saliency.isnan()
        return Scene(self.image, seen if self.domain is None else seen & self.domain, self.spacing, self.seed)

    @cached_property
    def silent(self) -> str:
        """Why the map ranks nothing, or ""; a uniform map that is not zero ranks at random, which is chance."""
        values = self.saliency[self.scene.field]
        if not len(values):
            return "nothing to perturb"
        if not bool(values.isfinite().all()):
            return "infinite saliency"
        return "" if bool(values.any()) else "zero map"

    @cached_property
    def units(self) -> Units:
        """What the perturbation removes at once."""
        return self.perturbation.partition(self.scene)

    @cached_property
    def fill(self) -> Fill:
        """What the perturbation puts in the place of removed voxels."""
        return self.perturbation.baseline(self.scene)

    @cached_property
    def intact(self) -> float:
        """The score of the image as it is."""
        return float(self.score(self.image[None])[0])

    @cached_property
    def unanswered(self) -> str:
        """Why map and intact image say nothing: `silent`, or that the model's answer is not finite; else ""."""
        return self.silent or reason(finite(self.intact))

    @cached_property
    def order(self) -> Ranks:
        """The rank of each unit by its mean saliency, 0 first."""
        return self.ranked(self.units.mean(self.saliency))

    @cached_property
    def deletion(self) -> Curve:
        """The scores as the units of highest mean saliency are removed first."""
        return self.curve(self.order)

    @cached_property
    def insertion(self) -> Curve:
        """The scores as the units of highest mean saliency are restored first."""
        return self.curve(self.order, restore=True)

    @cached_property
    def drops(self) -> PerUnit:
        """By how much the removal of each unit alone lowers the score; as many images as there are units."""
        left = self.answers(_singles(self.units.count, self.batch))
        return self.intact - left

    @cached_property
    def by_class(self) -> Answered:
        """What is answered for every class: of the intact image, then with the top 10, 20 .. 90 % of the units gone.

        Raises UsageError where nothing is known of classes.
        """
        if self.classes is None:
            raise UsageError("This probe compares no classes.", expected="Probe(..., classes=Classes(answers, asked))")
        found = list[Tensor]()
        with held(self.classes.answers, self.image.device) as answers:

            def watch(images: Images) -> Tensor:
                found.append(answers(images).double().cpu())
                return found[-1][:, 0]

            watch(self.image[None])
            replace(self, score=watch).after(ALPHAS)
        return torch.cat(found)

    def ranked(self, values: PerUnit, stream: int = 0) -> Ranks:
        """0 for the unit of highest value, then on; ties fall in an order drawn from the seed."""
        shuffled = torch.randperm(len(values), generator=self.scene.generator(100 + stream))
        order = shuffled[values[shuffled].argsort(descending=True, stable=True)]
        result = torch.empty_like(order)
        result[order] = torch.arange(len(order))
        return result

    def curve(self, order: Ranks, restore: bool = False) -> Curve:
        """The scores after the first units of `order` are removed from the image, or restored to the baseline.

        At each level the nearest whole number of units goes; levels that meet are one, and the ends are always there.
        """
        units = self.units
        counts = torch.tensor(sorted({0, units.count, *(round(p * units.count) for p in self.perturbation.levels)}))
        sizes = torch.zeros(units.count + 1, dtype=torch.float64)
        sizes[order + 1] = units.sizes
        fraction = sizes.cumsum(0)[counts] / units.sizes.sum()
        return Curve(fraction, self.answers(_cuts(order, counts, self.batch, restore)))

    def after(self, shares: Sequence[float], keep: bool = False) -> Float64[Tensor, " n"]:
        """The scores with the highest `shares` of the units removed, at least one; or, with `keep`, all others."""
        counts = torch.tensor([max(1, round(share * self.units.count)) for share in shares])
        return self.answers(_cuts(self.order, counts, self.batch, keep))

    def answers(self, chosen: Iterable[Chosen]) -> Float64[Tensor, " n"]:
        """The score after each row of units is removed, in order."""
        with held(self.score, self.image.device) as score:
            found = [score(self.fill(self.units.voxels(rows))).double().cpu() for rows in chosen]
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)

    def of(self, saliency: Map) -> "Probe":
        """Another map, held against the same network."""
        return replace(self, saliency=saliency)


def _singles(count: int, batch: int) -> Iterator[Chosen]:
    for some in torch.split(torch.arange(count), batch):
        yield some[:, None] == torch.arange(count)


def _cuts(order: Ranks, counts: Int[Tensor, " n"], batch: int, restore: bool) -> Iterator[Chosen]:
    for some in torch.split(counts, batch):
        first = order[None] < some[:, None]
        yield ~first if restore else first
