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
from medxai.model.recompute import made_again

_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
Numbers = tuple[Tensor | None, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """Numbers of a module as they were read, to tell later whether they are the same.

    What is written into them through `.data` is not seen.
    """

    numbers: Numbers
    states: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, numbers: Numbers) -> "Reading":
        return cls(numbers, _states(numbers))

    def still(self, numbers: Numbers) -> bool:
        """Whether these are the same tensors, lie as they did, and nothing was written into them."""
        same = all(now is then for now, then in zip(numbers, self.numbers, strict=True))
        return same and _states(numbers) == self.states


@dataclass(frozen=True, eq=False, slots=True)
class Line:
    """What a normalisation does while its numbers are those that were read: input * slope + intercept."""

    slope: Tensor
    intercept: Tensor
    read: Reading
    eps: float

    def holds(self, norm: Any) -> bool:
        """Whether the module still draws this line."""
        return not norm.training and norm.eps == self.eps and self.read.still(_numbers(norm))

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
    return _drawn(norm) if _constant(norm) else None


def lines(network: nn.Module) -> dict[nn.Module, Line]:
    """The line of every normalisation of images in the network that nobody listens to before it answers."""
    found = {module: line(module) for module in network.modules() if not module._forward_pre_hooks}
    return {module: one for module, one in found.items() if one}


def by_line(lines: Mapping[nn.Module, Line]) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """Each module answers by its line where that fits, and by itself elsewhere."""
    free = {module: line for module, line in lines.items() if not replaced(module)}
    return {module: partial(_answer, module, module.forward, line) for module, line in free.items()}


def _constant(module: nn.Module) -> bool:
    """Whether it normalises by the same numbers always: in eval mode, with statistics and a forward of its class."""
    if type(module) not in _NORMS or module.training or replaced(module):
        return False
    return module.running_mean is not None and module.running_var is not None


def _drawn(norm: Any) -> Line:
    shape, numbers = (1, -1, *[1] * (2 if isinstance(norm, nn.BatchNorm2d) else 3)), _numbers(norm)
    mean, variance, weight, bias = numbers
    slope = torch.rsqrt(variance + norm.eps)
    slope = slope if weight is None else slope * weight.detach()
    intercept = -mean * slope
    intercept = intercept if bias is None else intercept + bias.detach()
    return Line(slope.reshape(shape), intercept.reshape(shape), Reading.of(numbers), norm.eps)


def _numbers(norm: Any) -> tuple[Any, ...]:
    return norm.running_mean, norm.running_var, norm.weight, norm.bias


def _states(numbers: Numbers) -> tuple[tuple[Any, ...], ...]:
    return tuple((one.data_ptr(), one.shape, one.stride(), _version(one)) for one in numbers if one is not None)


def _version(tensor: Tensor) -> int:
    """0 for what was made in inference mode: nothing can be written into it elsewhere."""
    return 0 if tensor.is_inference() else tensor._version


def _answer(norm: nn.Module, itself: Callable[[Tensor], Tensor], line: Line, input: Tensor) -> Tensor:  # noqa: A002 - by PyTorch's name
    fits = line.fits(norm, input) and not made_again()
    return torch.addcmul(line.intercept, input, line.slope) if fits else itself(input)
