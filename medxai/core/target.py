"""What is explained: one differentiable score per sample, read from the model's output.

Logits, not probabilities: a saturated probability has no gradient. Reference frame (one class, or one against
another) and granularity (class or group) are targets, not methods.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from medxai.errors import TargetError
from medxai.shapes import MaskArray, Scores


@runtime_checkable
class Target(Protocol):
    """Read one differentiable score per sample from a model output."""

    def __call__(self, output: Any) -> Scores: ...


@runtime_checkable
class Settling(Protocol):
    """A target that takes something from the output of the images as they are, which changed images must not move."""

    def settled(self, output: Any) -> Target:
        """The target with that fixed."""
        ...


def settled(target: Target, output: Any) -> Target:
    """The target as it is put to changed images, after `output` was answered to the unchanged ones."""
    return target.settled(output) if isinstance(target, Settling) else target


@dataclass(frozen=True, slots=True)
class ClassScore:
    """The logit y_c of one class, the same for all samples or one per sample; also one output of a regressor."""

    index: int | tuple[int, ...]

    def __post_init__(self) -> None:
        _classes(self.index if isinstance(self.index, tuple) else (self.index,), self)

    def __call__(self, output: Any) -> Scores:
        scores = _table(output, self)
        if isinstance(self.index, int):
            return scores[:, _within(self.index, scores, self)]
        if len(self.index) != len(scores):
            raise TargetError(
                f"{self} names one class per sample.", expected=f"{len(self.index)} samples", found=f"{len(scores)}"
            )
        columns = torch.tensor([_within(i, scores, self) for i in self.index], device=scores.device)
        return scores.gather(1, columns[:, None])[:, 0]


@dataclass(frozen=True, slots=True)
class SignedScore:
    """sign * y of a head with one output: +1 explains the finding (or a high value), -1 its absence (or a low one)."""

    sign: int = 1

    def __post_init__(self) -> None:
        if self.sign not in (-1, 1):
            raise TargetError("SignedScore needs a sign.", expected="+1 or -1", found=repr(self.sign))

    def __call__(self, output: Any) -> Scores:
        scores = output[:, None] if isinstance(output, Tensor) and output.ndim == 1 else _table(output, self)
        if scores.shape[1] != 1:
            raise TargetError(
                f"{self} reads a head with one output.",
                found=f"{scores.shape[1]} outputs",
                remedy="Use ClassScore(index).",
            )
        return self.sign * scores[:, 0]


@dataclass(frozen=True, slots=True)
class GroupScore:
    """The sum of the logits of several classes, e.g. any kind of lung opacity."""

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        _classes(self.indices, self)
        if len(set(self.indices)) != len(self.indices):
            raise TargetError(f"{self} counts a class twice.", remedy="Name each class once.")

    def __call__(self, output: Any) -> Scores:
        scores = _table(output, self)
        return scores[:, [_within(i, scores, self) for i in self.indices]].sum(1)


@dataclass(frozen=True, slots=True)
class ContrastScore:
    """y_a - gamma * mean of y_r over the reference classes r: why this class and not those."""

    index: int
    references: tuple[int, ...]
    gamma: float = 1.0

    def __post_init__(self) -> None:
        _classes((self.index, *self.references), self)
        if not self.references or len({self.index, *self.references}) != 1 + len(self.references):
            raise TargetError(
                "ContrastScore compares a class with others.",
                expected="at least one reference class, each once and none of them the class itself",
                found=f"{self.index} against {self.references}",
            )

    def __call__(self, output: Any) -> Scores:
        scores = _table(output, self)
        others = scores[:, [_within(i, scores, self) for i in self.references]].mean(1)
        return scores[:, _within(self.index, scores, self)] - self.gamma * others


@dataclass(frozen=True, slots=True)
class MarginScore:
    """y_a minus the highest other logit of the same sample: why this class and not the runner-up."""

    index: int

    def __call__(self, output: Any) -> Scores:
        scores = _table(output, self)
        if scores.shape[1] < 2:
            raise TargetError(f"{self} needs a rival.", expected="at least two classes", found=f"{scores.shape[1]}")
        own = _within(self.index, scores, self)
        rivals = [i for i in range(scores.shape[1]) if i != own]
        return scores[:, own] - scores[:, rivals].amax(1)


@dataclass(frozen=True, eq=False)
class RegionScore:
    """The sum of one class's voxel logits over a region of a segmentation (batch, classes, *space).

    The region is `region` where given (a mask on the output grid), else the voxels where the class wins.
    Source: Vinogradova et al. 2020 (Seg-Grad-CAM).
    """

    index: int
    region: MaskArray | None = None

    def __call__(self, output: Any) -> Scores:
        if not isinstance(output, Tensor) or output.ndim < 4 or not 0 <= self.index < output.shape[1]:
            raise TargetError(
                f"RegionScore(index={self.index}) explains a segmentation.",
                expected=f"an output (batch, classes, *space) with more than {self.index} classes",
                found=_describe(output),
            )
        region = output.argmax(1) == self.index if self.region is None else self.region.to(output.device)
        if tuple(region.shape[-(output.ndim - 2) :]) != tuple(output.shape[2:]):
            raise TargetError(
                "The region is on another grid than the output.",
                expected=f"{tuple(output.shape[2:])}",
                found=f"{tuple(region.shape)}",
            )
        return (output[:, self.index] * region.to(output.dtype)).flatten(1).sum(1)

    def settled(self, output: Any) -> "RegionScore":
        """With the region where the class wins now; raises TargetError where `output` is no segmentation."""
        self(output)
        return self if self.region is not None else RegionScore(self.index, output.argmax(1) == self.index)

    def __repr__(self) -> str:
        if self.region is None:
            return f"RegionScore(index={self.index}, region=predicted)"
        digest = hashlib.sha256(self.region.cpu().contiguous().numpy().tobytes()).hexdigest()
        return f"RegionScore(index={self.index}, region=given, sha256 {digest[:16]})"


def _classes(indices: tuple[int, ...], target: object) -> None:
    if not indices or any(not isinstance(index, int) or isinstance(index, bool) for index in indices):
        raise TargetError(f"{target} names no class.", expected="at least one class number", found=f"{indices}")


def _table(output: Any, target: object) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise TargetError(
            f"{target} cannot be read from this output.",
            expected="a tensor (batch, classes)",
            found=_describe(output),
            remedy="SignedScore reads a head with one output, RegionScore a segmentation; else wrap the model so that "
            "it returns its logits.",
        )
    return output


def _within(index: int, scores: Tensor, target: object) -> int:
    if not 0 <= index < scores.shape[1]:
        raise TargetError(f"{target} names class {index}.", expected=f"0 to {scores.shape[1] - 1}", found=f"{index}")
    return index


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Sequence):
        return f"a {type(output).__name__} of {len(output)} values"
    return f"a {type(output).__name__}"
