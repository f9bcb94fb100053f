"""DBSCAN on few points of many coordinates, by Gram matrix: the order of the points decides every tie."""

from typing import Literal

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
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
        squares = gram.diagonal()
        apart = (squares[:, None] + squares - 2 * gram).clamp(min=0).sqrt()
    apart.fill_diagonal_(0)
    return apart


def dbscan(apart: Tensor, reach: float, least: int) -> Tensor:
    """Cluster number of each point, or NOISE (Ester et al. 1996).

    A core point has `least` points, itself included, within `reach`; cores within reach of each other share a cluster,
    numbered by its first core; another point within reach of a core joins the lowest-numbered of those clusters. What
    is beyond reach by no more than rounding is within it, so that the order of summation decides nothing.
    """
    near = (apart <= reach * (1 + _ROUNDING)).cpu().numpy()
    core = near.sum(1) >= least
    labels = np.full(len(near), NOISE)
    if core.any():
        _, labels[core] = connected_components(near[np.ix_(core, core)], directed=False)
        touched = near[:, core]
        lowest = np.where(touched, labels[core], len(near)).min(1)
        labels = np.where(~core & touched.any(1), lowest, labels)
    return torch.from_numpy(labels).to(apart.device)
