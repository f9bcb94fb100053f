"""Information-bottleneck attribution: the bits of one layer that a decision needs, each method its objective."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from numbers import Integral, Real
from typing import ClassVar, Literal

import torch
from torch import Tensor

from medxai.attribution.bottleneck.gate import NARROW
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.objective import NOISE_ABOVE, UNSCORED, Aim, Objective, Stakes
from medxai.attribution.bottleneck.search import Bottleneck, Found, Settings, in_groups
from medxai.attribution.bottleneck.statistics import FeatureStatistics
from medxai.attribution.cam import LayerMethod
from medxai.attribution.passes import Pass
from medxai.attribution.status import judge
from medxai.core.layer import Layer
from medxai.core.protocols import Attribution, Traits
from medxai.core.saliency import Status
from medxai.errors import UsageError
from medxai.model.capture import Captured
from medxai.model.footprint import sited

Beta = float | Literal["auto"]
_ROUNDS = 6
_LOWEST, _TOPS = -3.0, (3.0, 9.0)
_OF_A_SEARCH = ("beta", "beta found", "enough", "converged")
_COUNTS, _WIDTHS = ("steps", "copies", "seeds", "voxels"), ("sigma", "sigma_voxels", "sigma_mm")
_SOMETIMES = "with some seeds there was nothing to search"
ADVICE = "where noise scores above an image, `statistics` of a cohort may score less; RegressionIBA has what lowers it"


@dataclass(frozen=True, kw_only=True)
class IBA(LayerMethod):
    """Bits per layer cell that must pass for the score to stay: min L(y(lambda R + (1 - lambda) e)) + beta mean KL.

    `aim` and `value` state the objective L. `beta` trades bits against it; it does not transfer between models, so
    "auto" finds, by bisection from 0.001 to 1000, and on to 1e9 where that keeps more (the mean spreads a price over
    all features), the largest that keeps a share `retention` of the score. `sigma` smooths the gate, in
    cells of the layer, or `sigma_voxels`, in voxels of the image, along each axis; `explain` turns `sigma_mm`,
    millimetres, into voxels. The noise looks like `statistics`, or, without, has no mean and each channel's strength in
    this image. With several `seeds` the map is their mean, and their standard deviation is told. `voxels` bounds what
    is in the network at a time. Published: beta 10, rate 1, 10 steps, sigma 1. Source: Schulz et al. 2020.
    """

    traits: ClassVar[Traits] = Traits(
        reads="score", cost="1F + T n (suffix F + B)", shared=False, magnitude=True, random=True
    )
    resumes: ClassVar[bool] = True
    relu: bool = False
    beta: Beta = "auto"
    retention: float = 0.9
    aim: Aim = "retain"
    value: float | None = None
    statistics: FeatureStatistics | None = None
    sigma: float | tuple[float, ...] = 1.0
    sigma_voxels: float | tuple[float, ...] | None = None
    sigma_mm: float | None = None
    steps: int = 30
    rate: float = 0.5
    copies: int = 8
    shared_channels: bool = False
    seeds: int = 1
    voxels: int = 2**21

    def __post_init__(self) -> None:
        Objective(self.aim, self.value)
        given = {name: getattr(self, name) for name in ("beta", "retention", "rate", *_WIDTHS, *_COUNTS)}
        widths = [w for name in _WIDTHS for w in (given[name] if isinstance(given[name], tuple) else (given[name],))]
        if not (
            (self.beta == "auto" or (_finite(self.beta) and 0 <= self.beta <= 10 ** _TOPS[-1]))
            and all(width is None or (_finite(width) and width >= 0) for width in widths)
            and (_finite(self.retention, self.rate) and 0 < self.retention <= 1 and self.rate > 0)
            and all(isinstance(given[name], Integral) and given[name] > 0 for name in _COUNTS)
        ):
            raise UsageError(
                "These settings describe no search.",
                expected="finite numbers: beta from 0 to 1e9, or 'auto'; retention above 0 and up to 1; rate above 0; "
                f"sigma of at least 0, one or a tuple with one for each axis; whole {', '.join(_COUNTS)} above 0",
                found=", ".join(f"{name}={value!r}" for name, value in given.items()),
            )
        if self.sigma_voxels is not None and self.sigma_mm is not None:
            raise UsageError(
                "The gate is smoothed once.",
                expected="sigma_voxels or sigma_mm",
                found=f"sigma_voxels={self.sigma_voxels}, sigma_mm={self.sigma_mm}",
            )

    def in_voxels(self, spacing_mm: Callable[[], tuple[float, ...]]) -> "IBA":
        """The same method with sigma_mm in voxels, which the jump of a layer turns into its cells."""
        return replace(self, sigma_voxels=self._in_voxels(spacing_mm), sigma_mm=None)

    def _in_voxels(self, spacing_mm: Callable[[], tuple[float, ...]]) -> float | tuple[float, ...] | None:
        if self.sigma_mm is None:
            return self.sigma_voxels
        return tuple(self.sigma_mm / size for size in spacing_mm())

    def read(self, seen: Pass, captured: Captured) -> tuple[Attribution, ...]:
        return self.through(seen, (NoisyLayer.of(captured, self.statistics),))

    def through(self, seen: Pass, layers: Sequence[NoisyLayer]) -> tuple[Attribution, ...]:
        """One attribution per target, of gates at the first of `layers` that lie on the others too."""
        seeds = [int(torch.randint(2**31, ())) for _ in range(self.seeds)]
        runs = [self._run(seen, layers, seed) for seed in seeds]
        drawn = {name: torch.stack([run[name] for run in runs]) for name in runs[0]}
        told = {name: values.mean(0) for name, values in drawn.items()}
        if self.seeds > 1:
            told |= {f"{name} std": drawn[name].std(0) for name in ("map", "bits")}
        return tuple(
            self._attribution(seen, layers[0].layer, {name: values[target] for name, values in told.items()})
            for target in range(len(seen.targets))
        )

    def _run(self, seen: Pass, layers: Sequence[NoisyLayer], seed: int) -> dict[str, Tensor]:
        """What was found out about each target of each image, (t, b, ...), with one seed."""
        groups = in_groups(len(seen.images), self.settings(layers[0], seen).at_once // 2)
        found = [self._held(seen, layers, samples, seed) for samples in groups]
        return {name: torch.cat([one[name] for one in found], 1) for name in found[0]}

    def _held(self, seen: Pass, layers: Sequence[NoisyLayer], samples: range, seed: int) -> dict[str, Tensor]:
        neck = Bottleneck.at(seen, layers, samples, seed, inverse=self.inverse)
        return self.told(neck, self.settings(layers[0], seen))[1]

    def told(self, neck: Bottleneck, settings: Settings) -> tuple[Found, dict[str, Tensor]]:
        """The gates of each row, and what they say of each target, (t, n, ...): its "map", and its details."""
        found, beta, enough, sought = self.searched(neck, settings)
        maps = found.bits * neck.contributions(settings).sign() if self._signed else found.bits
        told = {"map": maps, "beta": beta, "beta found": sought.float(), "enough": enough.float(), **_diagnosis(found)}
        told |= {name: told[name].masked_fill(~found.stakes.live, torch.nan) for name in _OF_A_SEARCH}
        if self.beta != "auto" and self._objective.endless:
            told["enough"] = told["enough"] * torch.nan
        return found, {name: neck.of_targets(values) for name, values in told.items()}

    def searched(self, neck: Bottleneck, settings: Settings) -> tuple[Found, Tensor, Tensor, Tensor]:
        """The gates of each row, its beta, whether they do what was asked, and whether no larger beta would."""
        if self.beta != "auto":
            beta = torch.full((neck.rows,), float(self.beta), device=neck.features.device)
            found = neck.search(self._loss, beta, settings)
            return found, beta, self._enough(found, found), torch.ones_like(beta)
        low = high = torch.full((neck.rows,), _LOWEST, device=neck.features.device)
        best = loosest = neck.search(self._loss, 10**low, settings)
        rising = loosest.stakes.live
        for top in _TOPS:
            high = high.masked_fill(rising, top)
            for _ in range(_ROUNDS if bool(rising.any()) else 0):
                middle = (low + high) / 2
                found = neck.search(self._loss, 10**middle, settings, loosest.stakes)
                enough = self._enough(found, loosest)
                best = found.where(rising & enough, best)
                low, high = torch.where(rising & enough, middle, low), torch.where(rising & ~enough, middle, high)
            rising = rising & (high == top)
        enough = self._enough(best, loosest)
        return best, 10**low, enough, enough & ~rising

    inverse: ClassVar[bool] = False
    _does: ClassVar[str] = "kept"
    _signed: ClassVar[bool] = False

    @property
    def _objective(self) -> Objective:
        return Objective(self.aim, self.value)

    def _loss(self, score: Tensor, stakes: Stakes) -> Tensor:
        return self._objective.keep(score, stakes)

    def _enough(self, found: Found, loosest: Found) -> Tensor:
        return self._achieved(found, loosest) >= self.retention

    def _achieved(self, found: Found, loosest: Found) -> Tensor:
        """How far what was wanted was reached: 1 is all the way, or as far as the loosest gates went."""
        return self._objective.reached(found.kept, found.stakes, loosest.kept)

    def settings(self, at: NoisyLayer, seen: Pass) -> Settings:
        """Those of a search at that layer. Raises UsageError for millimetres."""
        if self.sigma_mm is not None:
            raise UsageError(
                "The method knows no millimetres.",
                expected="sigma in layer cells, or a call through medxai.explain, which knows the size of a voxel",
                found=f"sigma_mm={self.sigma_mm}",
            )
        room = max(1, self.voxels // max(at.features[0].numel(), seen.images[0].numel()))
        sigma = self._cells(at.layer, seen)
        return Settings(
            self.steps, self.rate, self.copies, sigma, shared=self.shared_channels, at_once=room, upward=self._upward
        )

    def _cells(self, layer: Layer, seen: Pass) -> tuple[float, ...]:
        """Sigma in cells of the layer along each axis; none along an axis that has but one cell, whose jump is 0."""
        shape = tuple(seen.images.shape)
        width = self.sigma if self.sigma_voxels is None else self.sigma_voxels
        widths = width if isinstance(width, tuple) else (width,) * (len(shape) - 2)
        if len(widths) != len(shape) - 2:
            raise UsageError("Each axis has one sigma.", expected=f"{len(shape) - 2} numbers", found=f"{widths}")
        if self.sigma_voxels is None:
            return widths
        (placed,) = sited(seen.network, (layer,), shape)
        jump = placed.footprint.jump if placed.footprint else (1.0,) * len(widths)
        return tuple(width / step if step else 0.0 for width, step in zip(widths, jump, strict=True))

    def unsmoothed(self, layer: Layer, seen: Pass) -> tuple[str, ...]:
        """A notice of the axes along which sigma is too narrow for the cells of the layer."""
        narrow = [str(axis) for axis, width in enumerate(self._cells(layer, seen)) if 0 < width < NARROW]
        said = f"sigma is below {NARROW} cells along axis {' and '.join(narrow)}: the gate is not smoothed there"
        return (said,) if narrow else ()

    def _attribution(self, seen: Pass, layer: Layer, told: dict[str, Tensor]) -> Attribution:
        maps = told.pop("map")
        status = self.judged(maps, told)
        return Attribution(
            maps,
            told["clean score"],
            status,
            layer.name,
            (*layer.notices, *seen.remarks, *self.unsmoothed(layer, seen), *self.advice(status, told)),
            layer.footprint,
            told,
            "bits",
        )

    def judged(self, maps: Tensor, told: dict[str, Tensor]) -> tuple[Status, ...]:
        """No map where noise scores above the image: to keep or to break its score would be to keep or break it low."""
        found = judge(maps, maps, told["clean score"], told["effect"], "effect of noise")
        low = (told["noise score"] > told["clean score"]) & (told["effect"] > 0) & self._upward
        parts = (told["searched"] > 0) & (told["searched"] < 1)
        unscored = told["clean score"].isfinite() & ~told["noise score"].isfinite()
        reasons = {UNSCORED: unscored, NOISE_ABOVE: low, _SOMETIMES: parts}
        return tuple(
            next((Status(reason) for reason, rows in reasons.items() if bool(rows[place])), one)
            for place, one in enumerate(found)
        )

    def advice(self, status: Sequence[Status], told: dict[str, Tensor]) -> tuple[str, ...]:
        """What a user should know of these maps, and can do about it."""
        restless, little, missed = (_falls_short(status, told[name]) for name in ("converged", "enough", "beta found"))
        given, share = self.beta != "auto", f"{self.retention:g} of the score"
        said = {
            f"the search had not settled after {self.steps} steps: take more `steps`": restless,
            f"no price tried {self._does} {share}: the cheapest tried is shown": little and not given,
            f"every price tried {self._does} {share}: the dearest tried is shown": missed and not little,
            f"beta {self.beta} {self._does} less than {share}: 'auto' seeks one that does": little and given,
            ADVICE: Status(NOISE_ABOVE) in status,
        }
        return tuple(text for text, holds in said.items() if holds)

    @property
    def _upward(self) -> bool:
        """Whether what is sought lies between the noise and a higher score."""
        return not self._signed and self.aim in {"retain", "deviation", "logistic"}


@dataclass(frozen=True, kw_only=True)
class InverseIBA(IBA):
    """Bits whose removal breaks the score: min [retained(y(lambda e + (1 - lambda) R))]+^2 + beta mean KL.

    Where two cues are redundant IBA needs one of them; removal has to cover both. With `beta="auto"`, the largest beta
    that removes a share `retention` of the score. Source: Khakzar et al. 2021 (whose loss is unbounded; this one ends
    where nothing is left).
    """

    inverse: ClassVar[bool] = True
    _does: ClassVar[str] = "removed"

    def _loss(self, score: Tensor, stakes: Stakes) -> Tensor:
        return self._objective.destroy(score, stakes)

    def _achieved(self, found: Found, loosest: Found) -> Tensor:
        return 1 - self._objective.share(found.complement, found.stakes, loosest.kept)


def _finite(*values: object) -> bool:
    return all(isinstance(value, Real) and isfinite(value) for value in values)


def _falls_short(status: Sequence[Status], shares: Tensor) -> bool:
    """Whether a map that is ok has a share below 1; NaN, of no search, is none."""
    return any(one.ok and bool(share < 1) for one, share in zip(status, shares, strict=True))


def _diagnosis(found: Found) -> dict[str, Tensor]:
    stakes = found.stakes
    return {
        "clean score": stakes.clean,
        "noise score": stakes.noise,
        "effect": stakes.effect,
        "searched": stakes.live.float(),
        "bottleneck score": found.kept,
        "complement score": found.complement,
        "retained": stakes.retained(found.kept),
        "bits": found.bits.flatten(1).sum(1),
        "converged": _settled(found.capacity),
        "loss": found.losses,
    }


def _settled(capacity: Tensor) -> Tensor:
    """1 where the information of a row moved by less than 5 % over the last fifth of the steps."""
    steps = capacity.shape[1]
    last, before = capacity[:, -1], capacity[:, -min(steps, max(2, steps // 5))]
    return ((last - before).abs() <= 0.05 * before.abs()).float()


METHODS = (IBA, InverseIBA)
