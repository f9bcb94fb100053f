"""Batch normalisation in eval mode is one multiplication and one addition per channel, and its gradient one product.

PyTorch's own takes twice as long on a processor where channels lie last in memory, forwards and more so backwards.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medxai.model.alter import answering
from medxai.model.layout import lies_last

Line = tuple[Tensor, Tensor]
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def lines(network: nn.Module) -> dict[nn.Module, Line]:
    """Slope and intercept, (1, channels, 1, ..), of every normalisation of images in the network, in eval mode.

    slope = weight / sqrt(running_var + eps), intercept = bias - running_mean * slope.
    """
    found = {module: _line(module) for module in network.modules() if type(module) in _NORMS and not module.training}
    return {module: line for module, line in found.items() if line is not None}


def drawn(lines: Mapping[nn.Module, Line]) -> AbstractContextManager[None]:
    """Inside, these modules answer by their lines for what lies channels last, and by themselves for all else."""
    return answering({module: partial(_answer, module.forward, line) for module, line in lines.items()})


def _line(norm: Any) -> Line | None:
    if norm.running_mean is None:
        return None
    shape = (1, -1, *[1] * (2 if isinstance(norm, nn.BatchNorm2d) else 3))
    slope = torch.rsqrt(norm.running_var + norm.eps)
    slope = slope if norm.weight is None else slope * norm.weight.detach()
    intercept = -norm.running_mean * slope
    intercept = intercept if norm.bias is None else intercept + norm.bias.detach()
    return slope.reshape(shape), intercept.reshape(shape)


def _answer(itself: Callable[[Tensor], Tensor], line: Line, features: Tensor) -> Tensor:
    slope, intercept = line
    return torch.addcmul(intercept, features, slope) if lies_last(features) else itself(features)
