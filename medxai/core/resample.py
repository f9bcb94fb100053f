"""Read values of one grid at the voxels of another: linear, one pass, along the composed affine."""

from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medxai.core.geometry import Geometry
from medxai.shapes import LayerMap, Map, MaskArray

Array = NDArray[Any]
_ROUNDING = 1e-6


def read_on(values: LayerMap, source: Geometry, target: Geometry) -> Map:
    """`values` at every voxel of `target`, linearly; beyond the outermost cell centres the nearest cell answers."""
    result = _along(values.detach().cpu().numpy(), source, target, order=1, mode="nearest")
    return torch.from_numpy(result)


def mean_on(values: LayerMap, source: Geometry, target: Geometry) -> Map:
    """The mean of `values` over every voxel of `target`: where these are larger than cells, at two points per cell.

    A point in the middle of a large voxel would see a few cells many times and the others never. Of a cell that stands
    alone this keeps the sum, within 4.2 % per axis where the voxel is no whole number of cells.
    """
    hop = np.abs(np.linalg.inv(source.affine) @ target.affine)[: source.ndim, : target.ndim].max(0)
    counts = [1 if step < 1 + _ROUNDING else ceil(2 * step) for step in hop]
    if max(counts) == 1:
        return read_on(values, source, target)
    middle = [(1 / n - 1) / 2 for n in counts]
    shape = [n * size for n, size in zip(counts, target.shape, strict=True)]
    rows = []
    for row in range(target.shape[0]):
        fine = target.coarse([row + middle[0], *middle[1:]], [1 / n for n in counts], [counts[0], *shape[1:]])
        read = read_on(values, source, fine)
        for axis, n in enumerate(counts):
            read = read.reshape(*read.shape[:axis], -1, n, *read.shape[axis + 1 :]).mean(axis + 1)
        rows.append(read)
    return torch.cat(rows)


def inside(field: Geometry, target: Geometry) -> MaskArray:
    """Which voxels of `target` have their centre within the voxels of `field`."""
    result = _along(np.ones(field.shape, np.uint8), field, target, order=0, mode="grid-constant")
    return torch.from_numpy(result.astype(bool))


def _along(values: Array, source: Geometry, target: Geometry, order: int, mode: str) -> Array:
    hop = np.linalg.inv(source.affine) @ target.affine
    read: Array = ndimage.affine_transform(
        values.reshape(source.shape3), hop[:3, :3], hop[:3, 3], target.shape3, order=order, mode=mode, prefilter=False
    )
    return read.reshape(target.shape)
