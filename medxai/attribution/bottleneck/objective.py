"""What a bottleneck must keep or break: one loss per score, without unit and bounded where the score is."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from medxai.errors import UsageError

NOISE_ABOVE = "noise scores above the image"
UNSCORED = "what the network answers to noise is not finite"
Aim = Literal["retain", "logistic", "raise", "lower", "reach", "deviation"]


@dataclass(frozen=True, slots=True)
class Stakes:
    """Between what each score can move: `clean` as the network answers, `noise` with the layer replaced by noise.

    `doubt` is two standard errors of `noise`, which is a mean over draws. `upward` says that what is sought is a way
    from the noise up to the image. `guide` are those of another bottleneck, whose gates lead the search of these.
    """

    clean: Tensor
    noise: Tensor
    doubt: Tensor
    upward: bool = False
    guide: "Stakes | None" = None

    def of(self, rows: slice | Tensor) -> "Stakes":
        """Those of some of the scores."""
        guide = self.guide.of(rows) if self.guide else None
        return Stakes(self.clean[rows], self.noise[rows], self.doubt[rows], self.upward, guide)

    @property
    def effect(self) -> Tensor:
        """|clean - noise|, or 0 where that is within the doubt."""
        difference = (self.clean - self.noise).abs()
        return difference.masked_fill(difference <= self.doubt, 0)

    @property
    def live(self) -> Tensor:
        """Whether the noise changes the score at all, as sought, and both are numbers, here and in the guide.

        Nothing else is searched.
        """
        own = self.effect.masked_fill((self.noise > self.clean) & self.upward, 0) > 0
        return own & self.guide.live if self.guide else own

    def retained(self, score: Tensor) -> Tensor:
        """(score - noise) / (clean - noise): 1 where the decision is as it was, 0 where the noise decides."""
        return (score - self.noise) / (self.clean - self.noise)


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of a score y, given the clean score y0 and the score yn of noise alone; with d = |y0 - yn|:

    retain: [1 - (y - yn) / (y0 - yn)]+^2, for any target. deviation: (1 - (y - yn) / (y0 - yn))^2. reach: the same with
    `value` for y0. raise: -(y - yn) / d. lower: (y - yn) / d. logistic: softplus(-y), for one logit that says yes.
    """

    aim: Aim = "retain"
    value: float | None = None

    def __post_init__(self) -> None:
        if self.aim not in get_args(Aim) or (self.aim == "reach") != (self.value is not None):
            raise UsageError(
                "This objective is not defined.",
                expected=f"one of {get_args(Aim)}; a value for 'reach' and for no other",
                found=f"aim={self.aim!r}, value={self.value}",
            )

    def keep(self, score: Tensor, stakes: Stakes) -> Tensor:
        """Small where the score is as wanted."""
        if self.aim == "logistic":
            return nn.functional.softplus(-score)
        if self._sign:
            return -self._moved(score, stakes)
        missing = 1 - self.share(score, stakes, stakes.clean)
        return (missing.clamp(min=0) if self.aim == "retain" else missing) ** 2

    def destroy(self, score: Tensor, stakes: Stakes) -> Tensor:
        """Small where nothing is left of what `keep` wants: no more of the way from yn to there, or up, or down."""
        if self.aim == "logistic":
            return nn.functional.softplus(score)
        left = self._moved(score, stakes) if self._sign else self.share(score, stakes, stakes.clean)
        return left.clamp(min=0) ** 2

    def share(self, score: Tensor, stakes: Stakes, furthest: Tensor) -> Tensor:
        """How much of the way from the score of noise to the goal: 1 is all of it."""
        return (score - stakes.noise) / (self.goal(stakes, furthest) - stakes.noise)

    def reached(self, score: Tensor, stakes: Stakes, furthest: Tensor) -> Tensor:
        """How well the goal is met: the share of the way, less what lies beyond where a value itself is the goal."""
        share = self.share(score, stakes, furthest)
        return 1 - (1 - share).abs() if self.aim in {"reach", "deviation"} else share

    def goal(self, stakes: Stakes, furthest: Tensor) -> Tensor:
        """The score that is all that was wanted; for raise and lower the `furthest` that any gate reached."""
        if self.value is not None:
            return stakes.clean * 0 + self.value
        return furthest if self._sign else stakes.clean

    @property
    def endless(self) -> bool:
        """Whether no score is all that is wanted, so that a share of it is known beside other searches alone."""
        return self._sign != 0

    @property
    def _sign(self) -> int:
        return {"raise": 1, "lower": -1}.get(self.aim, 0)

    def _moved(self, score: Tensor, stakes: Stakes) -> Tensor:
        return self._sign * (score - stakes.noise) / (stakes.clean - stakes.noise).abs()
