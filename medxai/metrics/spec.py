"""What the rest of the package must know about a metric: one row of facts per pure function.

Every metric takes one frozen value and answers one number, or `Undefined`: NaN with its reason, so that nothing counts
as a hit or a miss that is neither. What the value is follows from `needs`:

* `mask` and `map`: a `medxai.metrics.reading.Reading`, the map as read on a grid and, for `mask`, the annotation there.
* `probe` and `method`: the value that asks a model, or a method again; `medxai.metrics.probe` says which.

A value that a suite shares (ranks, the threshold sweep, a curve) is a cached property of that frozen value, so that it
is computed once however many metrics read it. A metric of lengths takes them from `reading.spacing_mm`, which refuses
where the pixel size is unknown. Rows stand in the tuple `METRICS` at the foot of their file; `medxai.catalog` collects
them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from typing import Literal

Needs = Literal["map", "mask", "probe", "method"]
Better = Literal["higher", "lower", "neither"]
Ties = Literal["expected", "together", "first"]
PerturbationPart = Literal["units", "baseline"]

RUNGS = ("exact", "blurred", "shifted", "random", "inverted")
"""The power ladder: the evidence itself, blurred, shifted by 10 mm, noise, and the complement of the evidence."""

NOT_FINITE = "the model's answer is not finite"


class Undefined(float):
    """NaN that says why: what a metric answers where it has no value."""

    reason: str

    def __new__(cls, reason: str) -> "Undefined":
        value = super().__new__(cls, nan)
        value.reason = reason
        return value

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]
        return (self.reason,)


def finite(value: float) -> float:
    """`value` that follows from what a model answered; undefined where that was NaN or infinite."""
    return value if isfinite(value) else Undefined(NOT_FINITE)


def reason(value: float) -> str:
    """Why `value` is undefined, or "" where it is a number."""
    return value.reason if isinstance(value, Undefined) else ""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One row of facts: the pure function, what it needs, its best value, its range, and what knowing nothing scores.

    `best` is None where the best value depends on the case or none is best. `uniform` is the score of a uniform map
    given the share of the field that the mask fills; None where that is no function of the share. `claims` names the
    rungs of the power ladder, best first, that the metric ranks strictly and in this order; empty for no promise.
    `ties` says whether equal values count in expectation over their random order, pass a threshold together or, in a
    published protocol, are told apart by who comes first.
    `unit` is "mm" or "mL" for metrics that refuse an unknown pixel size. `bound` flags what is chosen in view of the
    annotation and thus only an upper bound. `penalty` answers what a map that points nowhere is charged with by who
    must rank it, though its score is undefined. `ignores` is what of a probe's perturbation the metric makes no use of,
    having its own or none. The name is that of the function unless one is given, as to a function of which a parameter
    was fixed by `functools.partial`.
    """

    fn: Callable[..., float]
    needs: Needs
    best: float | None
    span: tuple[float, float]
    uniform: Callable[[float], float] | None = None
    unit: str = ""
    better: Better = "higher"
    claims: tuple[str, ...] = ()
    ties: Ties = "expected"
    bound: bool = False
    penalty: Callable[..., float] | None = None
    ignores: tuple[PerturbationPart, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.fn.__name__)

    def takes(self, part: PerturbationPart) -> bool:
        """Whether the score depends on what of the perturbation is named so."""
        return self.needs == "probe" and part not in self.ignores

    @property
    def summary(self) -> str:
        """The first line of the function's documentation, and what was fixed beforehand."""
        fixed = self.fn if isinstance(self.fn, partial) else partial(self.fn)
        says = (fixed.func.__doc__ or "").strip().partition("\n")[0]
        given = ", ".join(f"{key}={value}" for key, value in fixed.keywords.items())
        return f"{says} ({given})" if given else says
