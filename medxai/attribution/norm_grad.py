"""NormGrad: how strongly each cell would pull at a virtual layer put in the place of the layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from medxai.attribution.cam import LayerMap
from medxai.attribution.evidence import Evidence
from medxai.core.protocols import Traits
from medxai.shapes import Features, Maps

Virtual = Literal["bias", "scaling", "conv1x1", "conv3x3"]
Aggregate = Literal["norm", "filter_norm", "sum", "max"]


@dataclass(frozen=True, kw_only=True)
class NormGrad(LayerMap):
    """The size of what cell u adds to the gradient of a `virtual` identity layer's weights (Rebuffi et al. 2020).

    With x = A, g = dy/dA and cells x_u, g_u of K channels, the contribution of u is

        bias: g_u      scaling: x_u * g_u      conv1x1: x_u g_u^T      conv3x3: x_N(u) g_u^T,

    N(u) being the 3 x 3 (x 3) cells around u that exist. `aggregate` reads one number from it: the L2 norm (NormGrad),
    the L2 norm of its positive part ("filter_norm"), its sum (HiResCAM for scaling) or its largest entry. Outer
    products factorise, so none is ever built. Norms say how strongly, not whether for or against, and hardly depend on
    the class; `bias` is the same everywhere right before global average pooling. See MetaSaliency.
    """

    traits: ClassVar[Traits] = Traits(magnitude=True)
    relu: bool = False
    virtual: Virtual = "conv1x1"
    aggregate: Aggregate = "norm"

    def map(self, evidence: Evidence) -> Maps:
        g = evidence.G
        if self.virtual == "bias":
            return _ALONG[self.aggregate](g)
        if self.virtual == "scaling":
            return _ALONG[self.aggregate](evidence.A * g)
        return _OUTER[self.aggregate](evidence.A, g, 3 if self.virtual == "conv3x3" else 1)


def _norm(features: Features) -> Maps:
    norm: Tensor = torch.linalg.vector_norm(features, dim=1)
    return norm


_ALONG: dict[Aggregate, Callable[[Tensor], Tensor]] = {
    "norm": _norm,
    "filter_norm": lambda v: _norm(v.relu()),
    "sum": lambda v: v.sum(1),
    "max": lambda v: v.amax(1),
}


def _outer_norm(x: Features, g: Features, width: int) -> Maps:
    return _around(_norm(x).square(), width).sqrt() * _norm(g)


def _outer_filter_norm(x: Features, g: Features, width: int) -> Maps:
    """A product is positive where both factors are, or neither: the squared norms of the two parts multiply."""
    both = _around(_norm(x.relu()).square(), width) * _norm(g.relu()).square()
    neither = _around(_norm((-x).relu()).square(), width) * _norm((-g).relu()).square()
    return (both + neither).sqrt()


def _outer_sum(x: Features, g: Features, width: int) -> Maps:
    return _around(x.sum(1), width) * g.sum(1)


def _outer_max(x: Features, g: Features, width: int) -> Maps:
    """The largest product of two ranges lies where both factors are extreme."""
    highest, lowest = _around(x.amax(1), width, largest=True), -_around(-x.amin(1), width, largest=True)
    return torch.stack([a * b for a in (highest, lowest) for b in (g.amax(1), g.amin(1))]).amax(0)


_OUTER: dict[Aggregate, Callable[[Tensor, Tensor, int], Tensor]] = {
    "norm": _outer_norm,
    "filter_norm": _outer_filter_norm,
    "sum": _outer_sum,
    "max": _outer_max,
}


def _around(maps: Maps, width: int, *, largest: bool = False) -> Maps:
    """The sum (or the largest) of the `width` cells along every axis around each cell, of those that exist."""
    if width == 1:
        return maps
    for axis in range(1, maps.ndim):
        edge = maps.new_full((), -torch.inf if largest else 0.0).expand_as(maps.narrow(axis, 0, 1))
        windows = torch.cat([edge, maps, edge], axis).unfold(axis, width, 1)
        maps = windows.amax(-1) if largest else windows.sum(-1)
    return maps


METHODS = (NormGrad,)
