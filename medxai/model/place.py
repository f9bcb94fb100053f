"""Lay maps of layer cells on the voxels of the image that the network received, where each cell looks."""

import torch
from torch import Tensor

from medxai.core.layer import Footprint
from medxai.shapes import Features


def on_image(features: Features, footprint: Footprint, shape: tuple[int, ...]) -> Features:
    """(b, k, *cells) to (b, k, *shape): linear between the cells' receptive-field centres, constant beyond the last.

    Voxel v of an axis reads the cells at (v - start) / jump. Separable: one small matrix per axis.
    """
    for axis, size in enumerate(shape):
        matrix = _matrix(footprint, axis, features.shape[2 + axis], size).to(features)
        features = torch.movedim(torch.movedim(features, 2 + axis, -1) @ matrix, -1, 2 + axis)
    return features


def _matrix(footprint: Footprint, axis: int, cells: int, size: int) -> Tensor:
    place = (torch.arange(size, dtype=torch.float64) - footprint.start[axis]) / footprint.jump[axis]
    place = place.clamp(0, cells - 1)
    distance = (torch.arange(cells, dtype=torch.float64)[:, None] - place).abs()
    return (1 - distance).clamp(min=0)
