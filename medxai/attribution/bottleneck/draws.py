"""Noise strewn on features draw by draw: nothing is made that is as large as the noise, but the answer."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from medxai.model.layout import lies_last
from medxai.shapes import Features


def strewn(steady: Tensor, width: Tensor, drawn: Tensor, like: Features) -> Tensor:
    """steady + width * e for every draw e, (copies, t, n, k, *m), laid in memory as the features `like`, (n, k, *m).

    `width` has no copies, `steady` all of them or none.
    """
    shape = torch.broadcast_shapes(width.shape, drawn.shape[1:])  # type: ignore[no-untyped-call]
    steady = steady if steady.ndim == drawn.ndim else steady.expand(shape)
    found: Tensor = _Strewn.apply(steady, width.expand(shape), drawn, _axes(like))  # type: ignore[no-untyped-call]
    return found


class _Strewn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, steady: Tensor, width: Tensor, drawn: Tensor, axes: int) -> Tensor:
        ctx.save_for_backward(drawn)
        ctx.axes, ctx.each = axes, steady.ndim == drawn.ndim
        found = _room((len(drawn), *width.shape), width, axes)
        start, scale = steady if ctx.each else _laid(steady, axes), _laid(width, axes)
        for number, (place, noise) in enumerate(zip(found, drawn, strict=True)):
            torch.addcmul(start[number] if ctx.each else start, scale, _laid(noise, axes), out=place)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,), (drawn,) = gradients, ctx.saved_tensors
        total, of_width = torch.zeros_like(gradient[0]), torch.zeros_like(gradient[0])
        for one, noise in zip(gradient, drawn, strict=True):
            of_width.addcmul_(one, _laid(noise, ctx.axes))
            if not ctx.each:
                total += one
        return gradient if ctx.each else total.contiguous(), of_width.contiguous(), None, None


def _axes(like: Features) -> int:
    """How many axes of cells lie before the channels in memory."""
    return like.ndim - 2 if lies_last(like) else 0


def _laid(values: Tensor, axes: int) -> Tensor:
    """(t, n, k, *m) with channels last in memory, or itself."""
    return _room(tuple(values.shape), values, axes).copy_(values) if axes else values


def _room(shape: tuple[int, ...], like: Tensor, axes: int) -> Tensor:
    """Unwritten memory for (.., t, n, k, *m), of the type and on the device of `like`."""
    if not axes:
        return like.new_empty(shape)
    *rows, channels = shape[:-axes]
    return like.new_empty((prod(rows), *shape[-axes:], channels)).movedim(-1, 1).reshape(shape)
