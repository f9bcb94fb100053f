"""Faithfulness by what was asked: one class or a group, alone or against others (RFxG, arXiv 2511.13081).

p_k(alpha) is the probability of class k after the top alpha of the map was replaced, alpha = 0.1 .. 0.9. Two forms:
"signed" has the sign that each question calls for, is divided by the length of the interval, and higher is better for
all four. "released" are the integrals of the authors' published code; its CGC and CGS add both terms with one sign and
so cannot tell a class from its alternatives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from medxai.errors import TargetError
from medxai.metrics.probe import Probe
from medxai.shapes import Images

Form = Literal["signed", "released"]
ALPHAS = tuple(round(0.1 * i, 1) for i in range(1, 10))


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
        area = float(torch.trapezoid(values, self.alpha))
        return area / float(self.alpha[-1] - self.alpha[0]) if form == "signed" else area


def path(probe: Probe, answers: Callable[[Images], Float[Tensor, "n k"]], alphas: Sequence[float] = ALPHAS) -> Path:
    """The path of the probe's map, units and baseline; `answers` gives all classes of a batch."""
    found: list[Tensor] = []

    def watch(images: Images) -> Tensor:
        found.append(answers(images).double().cpu())
        return found[-1][:, 0]

    replace(probe, score=watch).after(alphas)
    intact = answers(probe.image[None])[0].double().cpu()
    return Path(torch.tensor(alphas, dtype=torch.float64), torch.cat(found), intact)


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
