"""The shape of a target, and what targets share."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from medxai.errors import TargetError
from medxai.shapes import Scores


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


def check_classes(indices: tuple[int, ...], target: object) -> None:
    """Raises TargetError unless `indices` are class numbers, at least one."""
    if not indices or any(not isinstance(index, int) or isinstance(index, bool) for index in indices):
        raise TargetError(
            f"{target} names no class.",
            expected="at least one class number, of Python's type int",
            found=f"{indices}",
            remedy="Write int(index) for a number of NumPy or PyTorch.",
        )


def table(output: Any, target: object) -> Tensor:
    """The output as scores (batch, classes). Raises TargetError for anything else."""
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise TargetError(
            f"{target} cannot be read from this output.",
            expected="a tensor (batch, classes)",
            found=describe(output),
            remedy="SignedScore reads a head with one output, RegionScore a segmentation; `output` picks one part of "
            "several.",
            code="X16",
        )
    return output


def within(index: int, scores: Tensor, target: object) -> int:
    """The class number, known to exist."""
    if not 0 <= index < scores.shape[1]:
        raise TargetError(
            f"{target} names class {index}.", expected=f"0 to {scores.shape[1] - 1}", found=f"{index}", code="X17"
        )
    return index


def at(values: Tensor, place: tuple[int, ...]) -> Scores:
    """The value of each sample at one place of (batch, *space)."""
    for index in place:
        values = values[:, index]
    return values


def describe(output: Any) -> str:
    """What kind of output this is."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Sequence):
        return f"a {type(output).__name__} of {len(output)} values"
    return f"a {type(output).__name__}"
