"""A layer whose features give way to noise that looks like them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from medxai.attribution.bottleneck.draws import strewn
from medxai.attribution.bottleneck.gate import Gate
from medxai.attribution.bottleneck.statistics import FeatureStatistics, noise_of
from medxai.core.layer import Layer
from medxai.model.capture import Captured
from medxai.model.layout import channels_last
from medxai.shapes import Features


@dataclass(frozen=True, eq=False)
class NoisyLayer:
    """What a layer emitted for n images, (n, k, *m), and what the noise of each image looks like."""

    layer: Layer
    features: Features
    statistics: tuple[FeatureStatistics, ...]

    @classmethod
    def of(cls, captured: Captured, statistics: FeatureStatistics | None) -> "NoisyLayer":
        """The captured layer, with noise as `statistics` or else as each image's own features.

        Raises UsageError for statistics of another layer.
        """
        features = captured.activation.detach()
        noise = tuple(noise_of(one, statistics, captured.layer) for one in torch.split(features, 1))
        return cls(captured.layer, features, noise)

    def laid_last(self) -> "NoisyLayer":
        """The same layer with channels last in memory."""
        return replace(self, features=channels_last(self.features))

    def among(self, samples: range) -> "NoisyLayer":
        """The same layer for some of the images."""
        return replace(
            self, features=self.features[list(samples)], statistics=tuple(self.statistics[i] for i in samples)
        )

    @cached_property
    def mean(self) -> Tensor:
        """Of the noise, for each image."""
        return torch.stack([one.mean for one in self.statistics])

    @cached_property
    def std(self) -> Tensor:
        """Of the noise, for each image."""
        return torch.stack([one.spread for one in self.statistics])

    @cached_property
    def alive(self) -> Tensor:
        """1 where the feature is ever active, else 0: dead features carry nothing."""
        return torch.stack([one.alive for one in self.statistics]).to(self.features)

    @cached_property
    def deviation(self) -> Tensor:
        """r = (R - mu) / sigma of each image."""
        return (self.features - self.mean) / self.std

    def draw(self, copies: int, dice: torch.Generator, over: Tensor | None = None) -> Tensor:
        """(copies, 1, 1, k, *m): the same for every target and image, so that each is explained as if it were alone.

        An earlier draw, `over`, is overwritten.
        """
        if over is None:
            over = torch.empty((copies, 1, 1, *self.features.shape[1:]), device=self.features.device)
        return over.normal_(generator=dice)

    def passed(self, gate: Gate, features: Tensor, drawn: Tensor) -> Tensor:
        """What the gates let pass of the features, (copies, targets, n, k, *m)."""
        steady = gate.passed(features, self.mean) * self.alive
        return strewn(steady, gate.closure * (self.std * self.alive), drawn, self.features)


class Noise:
    """Noise for some layers, drawn again and again in one place: new memory takes longer than the numbers."""

    def __init__(self, layers: Sequence[NoisyLayer], copies: int, dice: torch.Generator) -> None:
        self._layers, self._copies, self._dice = layers, copies, dice
        self._drawn: list[Tensor] = []

    def drawn(self) -> list[Tensor]:
        """For each layer (copies, 1, 1, k, *m); the last ones are no more."""
        over: Sequence[Tensor | None] = self._drawn or [None] * len(self._layers)
        self._drawn = [layer.draw(self._copies, self._dice, o) for layer, o in zip(self._layers, over, strict=True)]
        return self._drawn
