"""Lay maps of layer cells on the voxels of the image that the network received, where each cell looks."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from medxai.core.layer import Footprint
from medxai.shapes import Features

Placed = Float[Tensor, "b k *s"]
Moved = Float[Tensor, "b k *g"]


def on_image(features: Features, footprint: Footprint, shape: tuple[int, ...]) -> Placed:
    """(b, k, *cells) to (b, k, *shape): linear between the cells' receptive-field centres, constant beyond the last.

    Voxel v of an axis reads the cells at (v - start) / jump. Separable: one small matrix per axis.
    """
    for axis, size in enumerate(shape):
        matrix = _matrix(footprint, axis, features.shape[2 + axis], size).to(features)
        features = torch.movedim(torch.movedim(features, 2 + axis, -1) @ matrix, -1, 2 + axis)
    return features


def on_cells(image: Placed, footprint: Footprint) -> Features:
    """(b, k, *s) to (b, k, *cells): the mean of the voxels about each cell, weighted as `on_image` spreads the cell.

    A cell whose centre lies beyond the image, past another cell's, has no voxels and is 0.
    """
    for axis, cells in enumerate(footprint.shape):
        mean = _mean(footprint, axis, cells, image.shape[2 + axis]).to(image)
        image = torch.movedim(torch.movedim(image, 2 + axis, -1) @ mean.T, -1, 2 + axis)
    return image


def between(features: Features, source: Footprint, goal: Footprint, shape: tuple[int, ...]) -> Moved:
    """(b, k, *cells of source) to (b, k, *cells of goal) of the same image: what `on_cells` reads of `on_image`.

    Along an axis where the cells are the same nothing changes.
    """
    for axis, size in enumerate(shape):
        if all(getattr(source, name)[axis] == getattr(goal, name)[axis] for name in ("start", "jump", "shape")):
            continue
        matrix = _matrix(source, axis, features.shape[2 + axis], size) @ _mean(goal, axis, goal.shape[axis], size).T
        features = torch.movedim(torch.movedim(features, 2 + axis, -1) @ matrix.to(features), -1, 2 + axis)
    return features


def stretched(features: Features, shape: tuple[int, ...]) -> Placed:
    """(b, k, *cells) to (b, k, *shape), as if the cells tiled the image evenly: what published code does.

    Off by up to half a receptive field where kernels, strides and padding place the cells otherwise.
    """
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(shape)]
    return interpolate(features, shape, mode=mode, align_corners=False)


def _mean(footprint: Footprint, axis: int, cells: int, size: int) -> Tensor:
    matrix = _matrix(footprint, axis, cells, size)
    return matrix / matrix.sum(1, keepdim=True).clamp(min=1e-12)


def _matrix(footprint: Footprint, axis: int, cells: int, size: int) -> Tensor:
    place = (torch.arange(size, dtype=torch.float64) - footprint.start[axis]) / footprint.jump[axis]
    place = place.clamp(0, cells - 1)
    distance = (torch.arange(cells, dtype=torch.float64)[:, None] - place).abs()
    return (1 - distance).clamp(min=0)
