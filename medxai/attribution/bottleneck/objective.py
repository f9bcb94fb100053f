"""What a bottleneck must keep or break: one loss per score, bounded where the score is."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from medxai.errors import UsageError

Aim = Literal["retain", "logistic", "raise", "lower", "reach", "deviation"]
_AIMS = ("retain", "logistic", "raise", "lower", "reach", "deviation")


@dataclass(frozen=True, slots=True)
class Stakes:
    """Between what a score can move: `clean` as the network answers, `noise` with the layer replaced by noise.

    `spread` is the standard deviation of the score over draws of the noise.
    """

    clean: Tensor
    noise: Tensor
    spread: Tensor

    @property
    def effect(self) -> Tensor:
        """|clean - noise|, or 0 where that is no more than the noise itself moves the score."""
        difference = (self.clean - self.noise).abs()
        return difference.masked_fill(difference <= self.spread, 0)

    @property
    def live(self) -> Tensor:
        """Whether the noise changes the score at all, and both are numbers; nothing else can be searched."""
        return self.effect > 0

    def retained(self, score: Tensor) -> Tensor:
        """(score - noise) / (clean - noise): 1 where the decision is as it was, 0 where the noise decides."""
        return (score - self.noise) / (self.clean - self.noise)


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of a score y, given the clean score y0 and the score yn of noise alone.

    retain: [1 - (y - yn) / (y0 - yn)]+^2, unitless and bounded below, for any target. logistic: softplus(-y), for one
    logit that says yes. raise: -y. lower: y. reach: (y - value)^2. deviation: (y - y0)^2.
    """

    aim: Aim = "retain"
    value: float | None = None

    def __post_init__(self) -> None:
        if self.aim not in _AIMS or (self.aim == "reach") != (self.value is not None):
            raise UsageError(
                "This objective is not defined.",
                expected=f"one of {_AIMS}; a value for 'reach' and for no other",
                found=f"aim={self.aim!r}, value={self.value}",
            )

    def keep(self, score: Tensor, stakes: Stakes) -> Tensor:
        """Small where the score is as wanted."""
        if self.aim == "retain":
            return (1 - stakes.retained(score)).clamp(min=0) ** 2
        if self.aim == "logistic":
            return nn.functional.softplus(-score)
        if self.aim == "reach":
            return (score - self._value) ** 2
        if self.aim == "deviation":
            return (score - stakes.clean) ** 2
        return -score if self.aim == "raise" else score

    def destroy(self, score: Tensor, stakes: Stakes) -> Tensor:
        """Small where nothing is left of what `keep` wants; bounded below for every aim."""
        if self.aim == "logistic":
            return nn.functional.softplus(score)
        return stakes.retained(score).clamp(min=0) ** 2

    @property
    def _value(self) -> float:
        return 0.0 if self.value is None else self.value
