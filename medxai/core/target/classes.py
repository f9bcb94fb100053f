"""Targets of classifiers and regressors: one output, or several added up."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from medxai.core.target.protocol import check_classes, table, within
from medxai.errors import TargetError
from medxai.shapes import Scores

Together = Literal["sum", "logsumexp"]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """The logit y_c of one class, the same for all samples or one per sample; also one output of a regressor."""

    index: int | tuple[int, ...]

    def __post_init__(self) -> None:
        check_classes(self.index if isinstance(self.index, tuple) else (self.index,), self)

    def __call__(self, output: Any) -> Scores:
        scores = table(output, self)
        if isinstance(self.index, int):
            return scores[:, within(self.index, scores, self)]
        if len(self.index) != len(scores):
            raise TargetError(
                f"{self} names one class per sample.", expected=f"{len(self.index)} samples", found=f"{len(scores)}"
            )
        columns = torch.tensor([within(i, scores, self) for i in self.index], device=scores.device)
        return scores.gather(1, columns[:, None])[:, 0]


@dataclass(frozen=True, slots=True)
class SignedScore:
    """sign * y of a head with one output: +1 explains the finding (or a high value), -1 its absence (or a low one)."""

    sign: int = 1

    def __post_init__(self) -> None:
        _check_sign(self.sign, self)

    def __call__(self, output: Any) -> Scores:
        scores = _columns(output, self)
        if scores.shape[1] != 1:
            raise TargetError(
                f"{self} reads a head with one output.",
                found=f"{scores.shape[1]} outputs",
                remedy="Use ClassScore(index), or RegressionScore(index, sign).",
            )
        return self.sign * scores[:, 0]


@dataclass(frozen=True, slots=True)
class RegressionScore:
    """sign * y_i, one output of a regressor in its own unit: what raises it (+1) or what lowers it (-1)."""

    index: int = 0
    sign: int = 1

    def __post_init__(self) -> None:
        check_classes((self.index,), self)
        _check_sign(self.sign, self)

    def __call__(self, output: Any) -> Scores:
        scores = _columns(output, self)
        return self.sign * scores[:, within(self.index, scores, self)]


@dataclass(frozen=True, slots=True)
class GroupScore:
    """The logits of several classes together, e.g. any kind of lung opacity.

    Their sum, in which each counts alike, or log sum exp y_k, in which each counts by its softmax within the group.
    """

    indices: tuple[int, ...]
    together: Together = "sum"

    def __post_init__(self) -> None:
        check_classes(self.indices, self)
        if len(set(self.indices)) != len(self.indices):
            raise TargetError(f"{self} counts a class twice.", remedy="Name each class once.")

    def __call__(self, output: Any) -> Scores:
        scores = table(output, self)
        members = scores[:, [within(i, scores, self) for i in self.indices]]
        return members.logsumexp(1) if self.together == "logsumexp" else members.sum(1)


@dataclass(frozen=True, slots=True)
class ReSTScore:
    """y_c + log softmax(y)_c, which a saturated softmax cannot silence (Cai 2025, ShapleyCAM: residual softmax)."""

    index: int

    def __call__(self, output: Any) -> Scores:
        scores = table(output, self)
        own = within(self.index, scores, self)
        return scores[:, own] + scores.log_softmax(1)[:, own]


def _columns(output: Any, target: object) -> Tensor:
    return output[:, None] if isinstance(output, Tensor) and output.ndim == 1 else table(output, target)


def _check_sign(sign: int, target: object) -> None:
    if sign not in (-1, 1):
        raise TargetError(f"{type(target).__name__} needs a sign.", expected="+1 or -1", found=repr(sign))
