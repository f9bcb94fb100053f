"""Information-bottleneck attribution: the bits of one layer that a decision needs, each method its objective."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from medxai.attribution.bottleneck.objective import Aim, Objective, Stakes
from medxai.attribution.bottleneck.search import Bottleneck, Found, Settings
from medxai.attribution.bottleneck.statistics import FeatureStatistics, of_one_image
from medxai.attribution.cam import LayerMethod
from medxai.attribution.masking import Asked
from medxai.attribution.passes import Pass
from medxai.attribution.status import judge
from medxai.core.protocols import Attribution, Traits
from medxai.errors import UsageError
from medxai.model.capture import Captured
from medxai.model.resume import resumable

Beta = float | Literal["auto"]
_ROUNDS = 7
_BRACKET = (-3.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class IBA(LayerMethod):
    """Bits per layer cell that must pass for the score to stay: min L(y(lambda R + (1 - lambda) e)) + beta mean KL.

    `aim` and `value` state the objective L. `beta` trades bits against it; it does not transfer between models, so
    "auto" finds, by bisection, the largest that keeps a share `retention` of the score. `sigma` smooths the gate, in
    layer cells per axis, or `sigma_mm` in millimetres, which `explain` turns into cells. The noise looks like
    `statistics`, or, without, has no mean and each channel's strength in this image. `voxels` bounds what is in the
    network at a time. Published: beta 10, rate 1, 10 steps, sigma 1. Source: Schulz et al. 2020.
    """

    traits: ClassVar[Traits] = Traits(
        reads="score", cost="1F + T n (suffix F + B)", shared=False, magnitude=True, random=True
    )
    relu: bool = False
    beta: Beta = "auto"
    retention: float = 0.9
    aim: Aim = "retain"
    value: float | None = None
    statistics: FeatureStatistics | None = None
    sigma: float | tuple[float, ...] = 1.0
    sigma_mm: float | None = None
    steps: int = 30
    rate: float = 0.5
    copies: int = 8
    shared_channels: bool = False
    voxels: int = 2**21

    def in_cells(self, cell_mm: Callable[[], tuple[float, ...]]) -> "IBA":
        """The same method with sigma in cells: sigma_mm over the size of a cell along each axis."""
        if self.sigma_mm is None:
            return self
        return replace(self, sigma=tuple(self.sigma_mm / size for size in cell_mm()), sigma_mm=None)

    def read(self, seen: Pass, captured: Captured) -> tuple[Attribution, ...]:
        seed = int(torch.randint(2**31, ()))
        found = [self._one(seen, captured, sample, seed) for sample in range(len(seen.images))]
        return tuple(
            self._attribution(seen, captured, [one[0] for one in found], [one[1] for one in found], t)
            for t in range(len(seen.targets))
        )

    def _one(self, seen: Pass, captured: Captured, sample: int, seed: int) -> tuple[Found, Tensor]:
        asked = Asked(seen, sample)
        features = captured.activation[sample : sample + 1].detach()
        held = resumable(seen.network, captured.layer.name, asked.image)
        statistics = self.statistics.fits(features) if self.statistics else of_one_image(features)
        neck = Bottleneck(asked, held, captured.layer, features, statistics, seed, self._inverse)
        return self._searched(neck, self._settings(features, asked.image))

    def _searched(self, neck: Bottleneck, settings: Settings) -> tuple[Found, Tensor]:
        if self.beta != "auto":
            beta = torch.full((neck.targets,), float(self.beta), device=neck.features.device)
            return neck.search(self._loss, beta, settings), beta
        low, high = (torch.full((neck.targets,), end, device=neck.features.device) for end in _BRACKET)
        best: Found | None = None
        for _ in range(_ROUNDS):
            middle = (low + high) / 2
            found = neck.search(self._loss, 10**middle, settings)
            enough = self._achieved(found) >= self.retention
            best = found if best is None else _chosen(enough, found, best)
            low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
        assert best is not None  # noqa: S101 - at least one round
        return best, 10**low

    def _loss(self, score: Tensor, stakes: Stakes) -> Tensor:
        return Objective(self.aim, self.value).keep(score, stakes)

    def _achieved(self, found: Found) -> Tensor:
        """How far what was wanted was reached: 1 is all the way."""
        return found.stakes.retained(found.kept)

    _inverse: ClassVar[bool] = False

    def _settings(self, features: Tensor, image: Tensor) -> Settings:
        if self.sigma_mm is not None:
            raise UsageError(
                "The method knows no millimetres.",
                expected="sigma in layer cells, or a call through medxai.explain, which turns sigma_mm into cells",
                found=f"sigma_mm={self.sigma_mm}",
            )
        axes = features.ndim - 2
        sigma = self.sigma if isinstance(self.sigma, tuple) else (self.sigma,) * axes
        room = max(1, self.voxels // max(prod(features.shape), prod(image.shape)))
        return Settings(self.steps, self.rate, self.copies, sigma, shared=self.shared_channels, at_once=room)

    def _attribution(
        self, seen: Pass, captured: Captured, found: Sequence[Found], betas: Sequence[Tensor], target: int
    ) -> Attribution:
        maps = torch.stack([one.bits[target] for one in found])
        scores = seen.scores[target].detach()
        effect = torch.stack([one.stakes.effect[target] for one in found])
        details = {
            "clean score": scores,
            "noise score": torch.stack([one.stakes.noise[target] for one in found]),
            "bottleneck score": torch.stack([one.kept[target] for one in found]),
            "complement score": torch.stack([one.complement[target] for one in found]),
            "retained": torch.stack([one.stakes.retained(one.kept)[target] for one in found]),
            "bits": maps.flatten(1).sum(1),
            "beta": torch.stack([beta[target] for beta in betas]),
            "converged": torch.stack([_settled(one.capacity[target]) for one in found]),
            "loss": torch.stack([one.losses[target] for one in found]),
        }
        layer = captured.layer
        return Attribution(
            maps,
            scores,
            judge(maps, maps, scores, effect, "effect of noise"),
            layer.name,
            (*layer.notices, *seen.remarks),
            layer.footprint,
            details,
            "bits",
        )


@dataclass(frozen=True, kw_only=True)
class InverseIBA(IBA):
    """Bits whose removal breaks the score: min [retained(y(lambda e + (1 - lambda) R))]+^2 + beta mean KL.

    Where two cues are redundant IBA needs one of them; removal has to cover both. With `beta="auto"`, the largest beta
    that removes a share `retention` of the score. Source: Khakzar et al. 2021 (whose loss is unbounded; this one ends
    where nothing is left).
    """

    _inverse: ClassVar[bool] = True

    def _loss(self, score: Tensor, stakes: Stakes) -> Tensor:
        return Objective(self.aim, self.value).destroy(score, stakes)

    def _achieved(self, found: Found) -> Tensor:
        return 1 - found.stakes.retained(found.complement)


def _chosen(enough: Tensor, new: Found, old: Found) -> Found:
    """Per target the new result where it keeps enough, else the old one."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(enough.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return Found(
        pick(new.bits, old.bits),
        pick(new.openness, old.openness),
        pick(new.losses, old.losses),
        pick(new.capacity, old.capacity),
        new.stakes,
        pick(new.kept, old.kept),
        pick(new.complement, old.complement),
    )


def _settled(capacity: Tensor) -> Tensor:
    """1 where the information moved by less than 5 % over the last fifth of the steps."""
    last, before = capacity[-1], capacity[-min(len(capacity), max(2, len(capacity) // 5))]
    return ((last - before).abs() <= 0.05 * before.abs()).float()


METHODS = (IBA, InverseIBA)
