"""The answer: scores with their reasons, beside what maps that know nothing score."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Any

from medxai.catalog import find


@dataclass(frozen=True, slots=True)
class Score:
    """One metric's value beside what maps that know nothing would score; NaN has a reason.

    `p` is the share of other places of the finding at which the same map scores as well, None where none was drawn;
    `bound` says that the value was chosen in view of the annotation, so that no honest use of the map reaches it;
    `penalty` what a map that points nowhere is charged with where it must be ranked, None where there is a value.
    """

    metric: str
    value: float
    chance: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    unit: str = ""
    best: float | None = None
    bound: bool = False
    p: float | None = None
    penalty: float | None = None

    def __post_init__(self) -> None:
        if isnan(self.value):
            object.__setattr__(self, "value", nan)  # one object, so that equal scores compare equal

    def skill(self, row: str = "uniform") -> float:
        """(value - chance) / (best - chance) with the named chance row: 0 is chance and 1 the best.

        NaN where the metric has no fixed best value or the row is undefined. Raises UnknownNameError.
        """
        chance = find(self.chance, row)
        return nan if self.best is None or self.best == chance else (self.value - chance) / (self.best - chance)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an undefined number is null and keeps its reason."""
        row: dict[str, Any] = {"metric": self.metric, "value": number(self.value), "unit": self.unit}
        row |= {"chance": {name: number(value) for name, value in self.chance.items()}, "reason": self.reason}
        row |= {} if self.p is None else {"p": self.p}
        row |= {} if self.penalty is None else {"penalty": self.penalty}
        return row | ({"chosen_in_view_of_the_mask": True} if self.bound else {})


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All scores of one saliency against one annotation."""

    scores: tuple[Score, ...]
    mask_voxels: float
    mask_seen: float
    notices: tuple[str, ...] = ()

    def __getitem__(self, metric: str) -> Score:
        return find({score.metric: score for score in self.scores}, metric)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an undefined number is null and keeps its reason."""
        return {
            "scores": [score.as_dict() for score in self.scores],
            "mask_voxels": self.mask_voxels,
            "mask_share_seen_by_model": number(self.mask_seen),
            "notices": list(self.notices),
        }


def number(value: float) -> float | None:
    """`value`, or None where JSON has no word for it."""
    return None if isnan(value) else value
