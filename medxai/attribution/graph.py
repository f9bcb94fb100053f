"""What autograd recorded between a layer and a score: the operations by name."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

_AFFINE = frozenset(
    (
        *("Clone", "Copy", "ToCopy", "Alias", "AccumulateGrad", "T", "Transpose", "Permute", "View", "UnsafeView"),
        *("Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Expand", "Repeat", "Cat", "Stack", "Split", "Unbind"),
        *("SplitWithSizes", "Slice", "Select", "Index", "IndexSelect", "Gather", "Diagonal", "ConstantPadNd"),
        *("Add", "Sub", "Rsub", "Neg", "Sum", "Mean", "MaskedFill", "NativeBatchNorm", "CudnnBatchNorm"),
        *("AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "MkldnnAdaptiveAvgPool2D"),
    )
)
_BILINEAR = frozenset(("Addmm", "Addmv", "Bmm", "Baddbmm", "Convolution", "Dot", "Mm", "Mul", "Mv"))
_QUOTIENT = "Div"


@dataclass(frozen=True, slots=True)
class Operation:
    """One recorded operation, and which of its operands depend on where the graph began."""

    name: str
    moving: tuple[int, ...]

    @property
    def affine(self) -> bool:
        """Whether it is affine in what the graph began with, all else held."""
        if self.name in _BILINEAR:
            return len(self.moving) <= 1 or (self.name.startswith("Add") and self._only_added())
        if self.name == _QUOTIENT:
            return self.moving in ((), (0,))
        return self.name in _AFFINE

    def _only_added(self) -> bool:
        return len([operand for operand in self.moving if operand]) <= 1


def operations(scores: Tensor, start: Tensor) -> Iterator[Operation]:
    """Every operation that the scores were made with from `start` on, backwards; what `start` was made of is not."""
    seen, waiting = {start.grad_fn}, [scores.grad_fn] if scores.grad_fn else []
    while waiting:
        node = waiting.pop()
        inputs = [before for before, _ in node.next_functions]
        yield Operation(_plain(node.name()), tuple(i for i, before in enumerate(inputs) if before is not None))
        fresh = [before for before in inputs if before is not None and before not in seen]
        seen.update(fresh)
        waiting.extend(dict.fromkeys(fresh))


def _plain(name: str) -> str:
    return name.rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")
