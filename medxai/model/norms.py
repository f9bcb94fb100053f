"""Batch normalisation in eval mode is one multiplication and one addition per channel, and its gradient one product.

PyTorch's own takes twice as long on a processor where channels lie last in memory, forwards and more so backwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medxai.model.alter import replaced
from medxai.model.layout import lies_last

_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
Numbers = tuple[Tensor | None, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """Numbers of a module as they were read, to tell later whether they are the same."""

    numbers: Numbers
    versions: tuple[int, ...]

    @classmethod
    def of(cls, numbers: Numbers) -> "Reading":
        return cls(numbers, _versions(numbers))

    def still(self, numbers: Numbers) -> bool:
        """Whether these are the same tensors, which nobody has written into."""
        same = all(now is then for now, then in zip(numbers, self.numbers, strict=True))
        return same and _versions(numbers) == self.versions


@dataclass(frozen=True, eq=False, slots=True)
class Line:
    """What a normalisation does while its numbers are those that were read: input * slope + intercept."""

    slope: Tensor
    intercept: Tensor
    read: Reading

    def holds(self, norm: nn.Module) -> bool:
        """Whether the module still draws this line."""
        return not norm.training and self.read.still(_numbers(norm))

    def fits(self, norm: nn.Module, values: Tensor) -> bool:
        """Whether the line answers as the module would: for values that lie channels last, of its type and shape."""
        if not self.holds(norm) or not lies_last(values):
            return False
        same = values.dtype == self.slope.dtype and values.ndim == self.slope.ndim
        return same and values.shape[1] == self.slope.shape[1]


def line(norm: nn.Module) -> Line | None:
    """Slope and intercept, (1, channels, 1, ..), of a normalisation of images in eval mode; None for other modules.

    slope = weight / sqrt(running_var + eps), intercept = bias - running_mean * slope.
    """
    return _drawn(norm) if _plain(norm) else None


def lines(network: nn.Module) -> dict[nn.Module, Line]:
    """The line of every normalisation of images in the network that nobody listens to before it answers."""
    found = {module: line(module) for module in network.modules() if not module._forward_pre_hooks}
    return {module: one for module, one in found.items() if one}


def by_line(lines: Mapping[nn.Module, Line]) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """Each module answers by its line where that fits, and by itself elsewhere."""
    return {module: partial(_answer, module, module.forward, line) for module, line in lines.items()}


def _plain(module: nn.Module) -> bool:
    """Whether it is in eval mode, with numbers and a forward that nothing changes on the way."""
    return type(module) in _NORMS and not module.training and not replaced(module) and module.running_mean is not None


def _drawn(norm: Any) -> Line:
    shape, numbers = (1, -1, *[1] * (2 if isinstance(norm, nn.BatchNorm2d) else 3)), _numbers(norm)
    mean, variance, weight, bias = numbers
    slope = torch.rsqrt(variance + norm.eps)
    slope = slope if weight is None else slope * weight.detach()
    intercept = -mean * slope
    intercept = intercept if bias is None else intercept + bias.detach()
    return Line(slope.reshape(shape), intercept.reshape(shape), Reading.of(numbers))


def _numbers(norm: Any) -> tuple[Any, ...]:
    return norm.running_mean, norm.running_var, norm.weight, norm.bias


def _versions(numbers: Numbers) -> tuple[int, ...]:
    return tuple(one._version for one in numbers if one is not None)


def _answer(norm: nn.Module, itself: Callable[[Tensor], Tensor], line: Line, input: Tensor) -> Tensor:  # noqa: A002 - by PyTorch's name
    return torch.addcmul(line.intercept, input, line.slope) if line.fits(norm, input) else itself(input)
