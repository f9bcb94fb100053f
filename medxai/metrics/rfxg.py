"""Faithfulness by what was asked: one class or a group, alone or against others (RFxG, arXiv 2511.13081).

p_k(alpha) is the probability of class k after the top alpha of the map was replaced, alpha = 0.1 .. 0.9. Two forms:
"signed" has the sign that each question calls for, is divided by the length of the interval, and higher is better for
all four. "released" are the integrals of the authors' published code; its CGC and CGS add both terms with one sign and
so cannot tell a class from its alternatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from medxai.errors import TargetError
from medxai.metrics.probe import ALPHAS, Classes, Probe
from medxai.metrics.spec import Better, MetricSpec, Undefined, finite

Form = Literal["signed", "released"]
_ANY = float("inf")


@dataclass(frozen=True, eq=False)
class Path:
    """The answers for every class, (alpha, class), after each share was removed, and those of the intact image."""

    alpha: Float64[Tensor, " n"]
    p: Float64[Tensor, "n k"]
    intact: Float64[Tensor, " k"]

    def change(self, classes: Sequence[int]) -> Float64[Tensor, " n"]:
        """Mean over `classes` of p_k(alpha) - p_k(0)."""
        if not classes or not all(0 <= k < self.p.shape[1] for k in classes):
            raise TargetError("Unknown class.", expected=f"0 to {self.p.shape[1] - 1}", found=f"{tuple(classes)}")
        index = list(classes)
        return (self.p[:, index] - self.intact[index]).mean(1)

    def area(self, values: Float64[Tensor, " n"], form: Form) -> float:
        """The integral over alpha by trapezoids, divided by the length of the interval in the signed form."""
        length = float(self.alpha[-1] - self.alpha[0]) if form == "signed" else 1.0
        return finite(float(torch.trapezoid(values, self.alpha)) / length)


def path(probe: Probe) -> Path:
    """The path of the probe's map, units and baseline. Raises UsageError where it knows nothing of classes."""
    return Path(torch.tensor(ALPHAS, dtype=torch.float64), probe.by_class[1:], probe.by_class[0])


def contrastive_class_score(found: Path, a: int, b: int, form: Form = "signed") -> float:
    """Why a, not b. Signed: the fall of the margin p_a - p_b. Released: the margin itself, there low is good."""
    if form == "released":
        return found.area(found.p[:, a] - found.p[:, b], form)
    return found.area(found.change([b]) - found.change([a]), form)


def class_group_contrastivity(found: Path, a: int, group: Sequence[int], form: Form = "signed") -> float:
    """Why a, not the rest of its group: half the fall of p_a plus half the mean rise of the others.

    Released: the fall enters as a rise.
    """
    others = [k for k in group if k != a]
    sign = 1 if form == "released" else -1
    return found.area((found.change(others) + sign * found.change([a])) / 2, form)


def pointwise_group_score(found: Path, group: Sequence[int], form: Form = "signed") -> float:
    """Why this group: the mean fall of its probabilities."""
    return found.area(-found.change(group), form)


def contrastive_group_score(found: Path, a: Sequence[int], b: Sequence[int], form: Form = "signed") -> float:
    """Why group a, not group b: half the mean fall in a plus half the mean rise in b.

    Released: the fall enters as a rise.
    """
    sign = 1 if form == "released" else -1
    return found.area((found.change(b) + sign * found.change(a)) / 2, form)


def rfxg_ccs(probe: Probe, form: Form = "signed") -> float:
    """RFxG's contrastive class score, why one class and not another: the fall of the margin between them."""
    classes = _compared(probe, alone=True, against=1)
    if isinstance(classes, Undefined):
        return classes
    return contrastive_class_score(path(probe), classes.asked[0], classes.others[0], form)


def rfxg_cgc(probe: Probe, form: Form = "signed") -> float:
    """RFxG's class-group contrastivity, why a class and not its group: half its fall plus half their rise."""
    classes = _compared(probe, alone=True)
    if isinstance(classes, Undefined):
        return classes
    return class_group_contrastivity(path(probe), classes.asked[0], classes.others, form)


def rfxg_pgs(probe: Probe, form: Form = "signed") -> float:
    """RFxG's pointwise group score, why this class or group: the mean fall of its probabilities."""
    classes = _compared(probe, against=0)
    return classes if isinstance(classes, Undefined) else pointwise_group_score(path(probe), classes.asked, form)


def rfxg_cgs(probe: Probe, form: Form = "signed") -> float:
    """RFxG's contrastive group score, why one group and not another: half its fall plus half their rise."""
    classes = _compared(probe)
    if isinstance(classes, Undefined):
        return classes
    return contrastive_group_score(path(probe), classes.asked, classes.others, form)


def _compared(probe: Probe, alone: bool = False, against: int | None = None) -> Classes | Undefined:
    """The probe's classes: one if `alone`, set against `against` others, or against one or more."""
    classes = probe.classes
    if probe.silent or classes is None:
        return Undefined(probe.silent or "the target names no classes")
    if alone and len(classes.asked) != 1:
        return Undefined("the target asks about several classes")
    if against != 0 and not classes.others:
        return Undefined("the target sets its class against no other")
    return Undefined("the target sets its class against several") if against == 1 != len(classes.others) else classes


_QUESTIONS = (rfxg_ccs, rfxg_cgc, rfxg_pgs, rfxg_cgs)
_RELEASED: tuple[Better, ...] = ("lower", "neither", "higher", "neither")
METRICS = (
    *(MetricSpec(fn, "probe", None, (-_ANY, _ANY), claims=("exact", "random", "inverted")) for fn in _QUESTIONS),
    *(
        MetricSpec(
            partial(fn, form="released"), "probe", None, (-_ANY, _ANY), better=better, name=f"{fn.__name__}_released"
        )
        for fn, better in zip(_QUESTIONS, _RELEASED, strict=True)
    ),
)
