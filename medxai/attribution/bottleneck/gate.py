"""The noisy gate of an information bottleneck, and what passes through it.

A gate of openness lambda in [0, 1] lets Z = lambda R + (1 - lambda) e pass, with R the features of a layer and
e ~ N(mu, sigma^2) noise that looks like them. The information that Z carries about R is at most

    KL = (c^2 + (lambda r)^2 - 1) / 2 - log c    nats per feature,    c = 1 - lambda,    r = (R - mu) / sigma.

Source: Schulz et al. 2020, Restricting the flow: information bottlenecks for attribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import torch
from torch import Tensor, nn

_LEAST = 1e-30
NARROW = 0.3


@dataclass(frozen=True, slots=True)
class Gate:
    """The opennesses lambda of one step and their complements, both smooth and in float32; one row per map."""

    openness: Tensor
    closure: Tensor

    @classmethod
    def of(cls, alpha: Tensor, sigma: Sequence[float]) -> "Gate":
        """lambda = smooth(sigmoid(alpha)); smoothing keeps constants, so that 1 - lambda = smooth(sigmoid(-alpha))."""
        return cls(smooth(torch.sigmoid(alpha), sigma), smooth(torch.sigmoid(-alpha), sigma))

    @property
    def inverted(self) -> "Gate":
        """The gate that shuts where this one opens."""
        return Gate(self.closure, self.openness)

    def beyond(self, known: Tensor) -> "Gate":
        """What this gate opens further than one of openness `known`, below 1, that lies behind it.

        Its nats are the divergence of Z from what passes both, lambda known R + (1 - lambda known) e.
        """
        rest = (1 - known) + known * self.closure
        return Gate(self.openness * (1 - known) / rest, self.closure / rest)

    def passed(self, features: Tensor, noise: Tensor) -> Tensor:
        """Z = lambda R + (1 - lambda) e."""
        return self.openness * features + self.closure * noise

    def nats(self, deviation: Tensor) -> Tensor:
        """KL per feature, for r = (R - mu) / sigma; finite for every alpha that float32 holds."""
        closure = self.closure.clamp(min=_LEAST)
        return (closure**2 + (self.openness * deviation) ** 2 - 1) / 2 - closure.log()


def bits(nats: Tensor) -> Tensor:
    """Nats in bits."""
    return nats / log(2)


def smooth(values: Tensor, sigma: Sequence[float]) -> Tensor:
    """Convolve each channel of (b, k, *m) with a Gaussian of `sigma` cells per axis, 2 round(2 sigma) + 1 cells wide.

    Borders are reflected, or repeated where the map is smaller than the kernel. The kernel, cut at two sigma, spreads
    by 0.88 to 1 sigma from half a cell on, and by less below; an axis with sigma below 0.3 is left.
    """
    for axis, width in enumerate(sigma, start=2):
        if width >= NARROW and values.shape[axis] > 1:
            values = _along(values, axis, width)
    return values


def _along(values: Tensor, axis: int, sigma: float) -> Tensor:
    """A product with one matrix, which is many times faster than a convolution of one channel."""
    matrix = _kernels(values.shape[axis], sigma).to(values)
    return (values.movedim(axis, -1) @ matrix).movedim(-1, axis)


def _kernels(cells: int, sigma: float) -> Tensor:
    """In column i what cell i reads from each cell."""
    reach = round(2 * sigma)
    kernel = torch.tensor([exp(-(i**2) / (2 * sigma**2)) for i in range(-reach, reach + 1)])
    mode = "reflect" if cells > reach else "replicate"
    padded = nn.functional.pad(torch.eye(cells)[:, None], (reach, reach), mode=mode)
    return nn.functional.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0]
