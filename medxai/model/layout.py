"""Channels last in memory: faster convolutions on a processor, for the networks that can read it."""

from typing import Any

import torch
from torch import Tensor

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(values: Tensor) -> Tensor:
    """The same values, copied to channels last in memory where they are images or features on the processor.

    Their gradient has channels first again: sums over the batch are fifty times faster then. What lies so already is
    handed back itself.
    """
    if values.ndim not in _LAST or values.device.type != "cpu" or lies_last(values):
        return values
    laid: Tensor = _Last.apply(values)  # type: ignore[no-untyped-call]
    return laid


def lies_last(values: Tensor) -> bool:
    """A single channel, or a single image, lies both ways: a convolution, and this, go by the strides alone."""
    if values.ndim not in _LAST or values.stride(1) != 1 or values.stride(0) < values[:1].numel():
        return False
    return values.is_contiguous(memory_format=_LAST[values.ndim])


class _Last(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        return values.clone(memory_format=_LAST[values.ndim])

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous()
