"""Read values of one grid at the voxels of another: linear, one pass, along the composed affine."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medxai.core.geometry import Geometry
from medxai.shapes import LayerMap, Map, MaskArray

Array = NDArray[Any]


def read_on(values: LayerMap, source: Geometry, target: Geometry) -> Map:
    """`values` at every voxel of `target`, linearly; beyond the outermost cell centres the nearest cell answers."""
    result = _along(values.detach().cpu().numpy(), source, target, order=1, mode="nearest")
    return torch.from_numpy(result)


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
