"""DBSCAN on few points of many coordinates, by Gram matrix: the order of the points decides every tie."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Distance = Literal["euclidean", "cosine"]
NOISE = -1
_ROUNDING = 1e-9


def distances(points: Tensor, kind: Distance) -> Tensor:
    """(p, p) distances of (p, n) points in float64, from the p x p Gram matrix: memory is 8 p^2 bytes a few times.

    Cosine distance is 1 - cos, and that of a point at the origin to any other is 1.
    """
    points = points.double()
    if kind == "cosine":
        points = torch.nn.functional.normalize(points, dim=1, eps=torch.finfo(torch.float64).tiny)
        apart = 1 - points @ points.T
    else:
        gram = points @ points.T
        squares = gram.diagonal().clone()
        apart = gram.mul_(-2).add_(squares).add_(squares[:, None]).clamp_(min=0).sqrt_()
    return apart.fill_diagonal_(0)


def quantile(apart: Tensor, share: float) -> float:
    """The quantile of the distances between different points, each counted both ways, linear between two of them."""
    below = apart.cpu().numpy()[np.tri(len(apart), k=-1, dtype=bool)]
    place = (2 * len(below) - 1) * share
    low, high = int(place) // 2, min((int(place) + 1) // 2, len(below) - 1)
    order = np.partition(below, (low, high))
    return float(order[low] + (order[high] - order[low]) * (place - int(place)))


def dbscan(apart: Tensor, reach: float, least: int) -> Tensor:
    """Cluster number of each point, or NOISE (Ester et al. 1996).

    A core point has `least` points, itself included, within `reach`; cores within reach of each other share a cluster,
    numbered by its first core; another point within reach of a core joins the lowest-numbered of those clusters. What
    is beyond reach by no more than rounding is within it, so that the order of summation decides nothing.
    """
    near = (apart <= reach * (1 + _ROUNDING)).cpu().numpy()
    core = near.sum(1) >= least
    labels = np.full(len(near), NOISE)
    labels[core] = _joined(near[np.ix_(core, core)])
    loose = np.flatnonzero(~core)
    touched = near[np.ix_(loose, core)]
    lowest = np.where(touched, labels[core], len(near)).min(1, initial=len(near))
    labels[loose] = np.where(touched.any(1), lowest, NOISE)
    return torch.from_numpy(labels).to(apart.device)


def _joined(near: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of the connected component of each point, in order of first points, by breadth first search."""
    labels, count = np.full(len(near), NOISE), 0
    for first in range(len(near)):
        if labels[first] == NOISE:
            front = np.arange(len(near)) == first
            while front.any():
                labels[front] = count
                front = near[front].any(0) & (labels == NOISE)
            count += 1
    return labels
