"""What the rest of the package must know about a metric."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Needs = Literal["map", "mask", "probe", "method"]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One row of facts: the pure function, what it needs, its best value, its range, and what knowing nothing scores.

    `uniform` is the score of a uniform map, given the share of the field that the mask fills.
    """

    fn: Callable[..., float]
    needs: Needs
    best: float
    span: tuple[float, float]
    uniform: Callable[[float], float]
    unit: str = ""

    @property
    def name(self) -> str:
        return self.fn.__name__

    @property
    def summary(self) -> str:
        """The first line of the function's documentation."""
        return (self.fn.__doc__ or "").strip().partition("\n")[0]
