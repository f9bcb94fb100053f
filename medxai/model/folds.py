"""A convolution and the batch normalisation after it are one convolution, in eval mode.

slope (W * x + b) + intercept = (slope W) * x + (slope b + intercept)
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from medxai.model.norms import Line, Reading, line

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """What the two answer while their numbers are those that were read; else they answer themselves."""

    convolution: Any
    norm: nn.Module
    line: Line
    read: Reading
    weight: Tensor
    bias: Tensor

    def __call__(self, values: Tensor) -> Any:
        fits = values.dtype == self.weight.dtype and values.ndim == self.weight.ndim
        if not fits or not self.line.holds(self.norm) or not self.read.still(_numbers(self.convolution)):
            return self.norm(self.convolution(values))
        return self.convolution._conv_forward(values, self.weight, self.bias)


def fold(convolution: Any, norm: nn.Module) -> Fold | None:
    """The two as one convolution, where they are a convolution and a normalisation of its channels in eval mode."""
    drawn = line(norm) if type(convolution) in _CONVOLUTIONS else None
    if drawn is None or drawn.slope.ndim != convolution.weight.ndim:
        return None
    slope, (weight, bias) = drawn.slope.flatten(), _numbers(convolution)
    if len(slope) != len(weight) or slope.dtype != weight.dtype:
        return None
    start = drawn.intercept.flatten() if bias is None else drawn.intercept.flatten() + slope * bias.detach()
    scaled = weight.detach() * slope.view(-1, *[1] * (weight.ndim - 1))
    return Fold(convolution, norm, drawn, Reading.of((weight, bias)), scaled, start)


def _numbers(convolution: Any) -> tuple[Tensor, Tensor | None]:
    return convolution.weight, convolution.bias
