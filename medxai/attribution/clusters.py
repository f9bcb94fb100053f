"""DBSCAN on few points of many coordinates, by Gram matrix: the order of the points decides every tie."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Distance = Literal["euclidean", "cosine"]
NOISE = -1
_ROUNDING = 1e-9
_SAMPLE, _MARGIN = 2048, 96  # more than four standard deviations of a rank in such a sample


def squared_distances(points: Tensor, kind: Distance) -> NDArray[np.float64]:
    """(p, p) squares of the distances of (p, n) points, from the p x p Gram matrix in float64: 8 p^2 bytes.

    Cosine distance is 1 - cos, and that of a point at the origin to any other is 1.
    """
    points = points.double()
    if kind == "cosine":
        points = torch.nn.functional.normalize(points, dim=1, eps=torch.finfo(torch.float64).tiny)
        squares = (points @ points.T).neg_().add_(1).clamp_(min=0).square_()
    else:
        gram = points @ points.T
        own = gram.diagonal().clone()
        squares = gram.mul_(-2).add_(own).add_(own[:, None]).clamp_(min=0)
    return squares.fill_diagonal_(0).cpu().numpy()


def quantile(squares: NDArray[np.float64], share: float) -> float:
    """The quantile of the distances between different points, each counted both ways, linear between two of them.

    There must be two points.
    """
    below = squares[np.tri(len(squares), k=-1, dtype=bool)]
    place = (2 * len(below) - 1) * share
    low, high = int(place) // 2, min((int(place) + 1) // 2, len(below) - 1)
    first, run = _around(below, low)
    lesser, greater = np.sqrt([run[low - first], run[high - first]])
    return float(lesser + (greater - lesser) * (place - int(place)))


def _around(values: NDArray[np.float64], rank: int) -> tuple[int, NDArray[np.float64]]:
    """The rank of its first, and a sorted run of the values that holds `rank` and the next, if there is one.

    The run lies between two values of a sample; where they do not enclose the rank it is all. No value is negative.
    """
    sample = np.sort(values[:: len(values) // _SAMPLE + 1])
    centre = rank * len(sample) // len(values)
    bottom = sample[centre - _MARGIN] if centre >= _MARGIN else 0.0
    top = sample[centre + _MARGIN] if centre + _MARGIN < len(sample) else np.inf
    first, run = int(np.count_nonzero(values < bottom)), values[(values >= bottom) & (values <= top)]
    if first <= rank and min(rank + 2, len(values)) <= first + len(run):
        return first, np.sort(run)
    return 0, np.sort(values)


def dbscan(squares: NDArray[np.float64], reach: float, least: int) -> NDArray[np.int64]:
    """Cluster number of each point, or NOISE (Ester et al. 1996), by breadth first search.

    A core point has `least` points, itself included, within `reach`; cores within reach of each other share a cluster,
    numbered by its first core; another point within reach of a core joins the lowest-numbered of those clusters. What
    is beyond reach by no more than rounding is within it, so that the order of summation decides nothing.
    """
    near = squares <= (reach * (1 + _ROUNDING)) ** 2
    core = near.sum(1) >= least
    labels, count = np.full(len(near), NOISE), 0
    for first in np.flatnonzero(core):
        if labels[first] == NOISE:
            front = np.array([first])
            while len(front):
                fresh = near[front].any(0) & (labels == NOISE)
                labels[fresh] = count
                front = np.flatnonzero(fresh & core)
            count += 1
    return labels
