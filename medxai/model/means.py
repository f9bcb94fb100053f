"""A 1x1 convolution and a mean over cells commute; the mean first leaves the convolution a fraction of the cells.

    mean_c (W x_c + b) = W (mean_c x_c) + b

The transitions of a DenseNet hold such pairs, and half of what follows its third block.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from torch import nn

_MEANS: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: nn.AvgPool2d, nn.Conv3d: nn.AvgPool3d}


def mean_first(convolution: nn.Module, mean: nn.Module) -> Callable[[Any], Any] | None:
    """What runs the mean and then the convolution, where that gives what they give the other way round, and is less."""
    if type(mean) is not _MEANS.get(type(convolution)) or not _commute(convolution, mean):
        return None
    return lambda values: convolution(mean(values)) if _commute(convolution, mean) else mean(convolution(values))


def _commute(convolution: Any, mean: Any) -> bool:
    """Whether the convolution reads one cell, each mean is over as many cells of the image, and both cost less so."""
    one_cell = _all(convolution.kernel_size, 1) and _all(convolution.stride, 1)
    unpadded = _all(convolution.padding, 0) or isinstance(convolution.padding, str)
    whole = _all(mean.padding, 0) and not mean.ceil_mode and mean.divisor_override is None
    return one_cell and unpadded and whole and _less(convolution, mean)


def _less(convolution: Any, mean: Any) -> bool:
    """Whether the mean leaves fewer cells, and the two are fewer multiplications and additions for each that is left.

    products + in * window < products * cells + out * window, with the products of the convolution in one cell.
    """
    axes = convolution.weight.ndim - 2
    window, cells = (prod(_each(sizes, axes)) for sizes in (mean.kernel_size, mean.stride))
    more = (convolution.in_channels - convolution.out_channels) * window
    return cells > 1 and more < convolution.weight.numel() * (cells - 1)


def _all(sizes: object, size: int) -> bool:
    return all(one == size for one in (sizes if isinstance(sizes, tuple) else (sizes,)))


def _each(sizes: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    return sizes if isinstance(sizes, tuple) else (sizes,) * axes
