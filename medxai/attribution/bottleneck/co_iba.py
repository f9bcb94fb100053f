"""One bottleneck for several layers: what a gate holds back at the first, no later layer may bring to the score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.statistics import FeatureStatistics, refuse_shared
from medxai.attribution.combined import ALONE, LayersMethod
from medxai.attribution.passes import Pass
from medxai.core.protocols import Attribution, Traits
from medxai.errors import UsageError
from medxai.model.capture import Captured


@dataclass(frozen=True, kw_only=True)
class CoIBA(LayersMethod):
    """Bits per cell of the first layer that pass a gate which lies on every layer: Z_l = lambda R_l + (1 - lambda) e_l.

    R_l is what layer l makes of Z_(l-1), and lambda, one for all channels, is laid on its cells where they look. The
    price is the KL at the first layer alone: where no path goes round it, what passes the later ones is made of Z_1 and
    cannot tell more. `method` searches the gate and states the objective; `statistics` of every layer, or of none, say
    what the noise looks like. Layers that do not follow the first are refused with UsageError. Published: tokens of a
    transformer, beta 1, 10 steps, rate 1, no smoothing. Source: Hong et al. 2025, Comprehensive information bottleneck.
    """

    traits: ClassVar[Traits] = Traits(
        reads="score", cost="1F + T n (suffix F + B)", shared=False, magnitude=True, random=True
    )
    method: IBA = field(default_factory=IBA)
    statistics: Sequence[FeatureStatistics] = ()

    def __post_init__(self) -> None:
        LayersMethod.__post_init__(self)
        object.__setattr__(self, "statistics", tuple(self.statistics))
        object.__setattr__(self, "method", replace(self.method, shared_channels=True))
        refuse_shared(self.method.statistics, self.statistics, self.layers)

    @property
    def base(self) -> IBA:
        return self.method

    def in_voxels(self, spacing_mm: Callable[[], tuple[float, ...]]) -> "CoIBA":
        """The same with the sigma_mm of `method` in voxels."""
        return replace(self, method=self.method.in_voxels(spacing_mm))

    def read(self, seen: Pass, captured: Sequence[Captured]) -> tuple[Attribution, ...]:
        first, *further = captured
        for one in further:
            _refuse_unless_after(first, one)
        given = self.statistics or (None,) * len(captured)
        layers = [NoisyLayer.of(one, known) for one, known in zip(captured, given, strict=True)]
        notices = tuple(dict.fromkeys(notice for one in further for notice in one.layer.notices))
        found = self.method.through(seen, layers)
        return tuple(replace(one, notices=(*one.notices, *(notices if further else (ALONE,)))) for one in found)


def _refuse_unless_after(first: Captured, other: Captured) -> None:
    """Raises UsageError where the pass did not lead from the one layer to the other."""
    slope = None
    if other.layer.name != first.layer.name and other.output.grad_fn:
        whole = torch.ones_like(other.output)
        (slope,) = torch.autograd.grad(other.output, first.output, whole, retain_graph=True, allow_unused=True)
    if slope is None:
        raise UsageError(
            f"Layer {other.layer.name!r} does not follow {first.layer.name!r}, where the gate is.",
            expected="layers in the order in which they run, each made of what the first emits",
            remedy="Name them so; `medxai layers` lists them in order.",
        )


METHODS = (CoIBA,)
