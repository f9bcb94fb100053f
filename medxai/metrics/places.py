"""Voxels as points of the patient: where the mask, its lesions and the maximum are, in millimetres."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from medxai.core.geometry import Geometry

if TYPE_CHECKING:
    from medxai.metrics.reading import Reading

Points = NDArray[Any]
Voxels = NDArray[Any]
Indices = NDArray[Any]

NO_REGION = "no voxel of the mask is one half or more"
_MOST_TIES = 20_000
_FEW = 0.01


def touching(ndim: int) -> Voxels:
    """Neighbours of a voxel that share a face, an edge or a corner with it."""
    return np.ones((3,) * ndim, bool)


def components(values: NDArray[Any], neighbours: Voxels) -> tuple[Indices, int]:
    """Connected parts of what is not 0, numbered from 1 on in reading order; only the box around it all is searched."""
    filled = values != 0
    lines = [filled.any(tuple(a for a in range(filled.ndim) if a != axis)) for axis in range(filled.ndim)]
    parts = np.zeros(values.shape, np.int32)
    if not lines[0].any():
        return parts, 0
    ends = [np.flatnonzero(line)[[0, -1]] for line in lines]
    box = tuple(slice(first, last + 1) for first, last in ends)
    parts[box], number = ndimage.label(filled[box], neighbours)
    return parts, int(number)


def region(reading: "Reading") -> Voxels:
    """The annotation as one region: of a soft mask, what half or more of it holds."""
    return np.asarray((reading.mask >= 0.5 if reading.mask.is_floating_point() else reading.mask).numpy())


def world(index: Indices, geometry: Geometry) -> Points:
    """Positions of voxels (n, axes) in mm. Raises GeometryError where the pixel size is unknown."""
    _ = geometry.spacing_mm
    padded = np.zeros((len(index), 3))
    padded[:, : index.shape[1]] = index
    return geometry.world(padded)


def surface(voxels: Voxels) -> Indices:
    """The voxels of a region that have a face in common with what is not the region, (n, axes)."""
    box = next(iter(ndimage.find_objects(voxels.view(np.uint8))), None)
    if box is None:
        return np.empty((0, voxels.ndim), np.int64)
    corner = [part.start for part in box]
    padded = np.pad(voxels[box], 1)
    inside = tuple(slice(1, -1) for _ in box)
    inner = voxels[box].copy()
    for axis in range(voxels.ndim):
        for step in (1, -1):
            inner &= np.roll(padded, step, axis)[inside]
    return np.asarray(np.argwhere(voxels[box] & ~inner) + corner)


def nearest(points: Indices, voxels: Voxels, geometry: Geometry) -> Points:
    """Distance in mm from each voxel of `points` (n, axes) to the nearest voxel centre of a region, 0 inside it."""
    return np.where(voxels[tuple(points.T)], 0.0, apart(points, surface(voxels), geometry))


def apart(points: Indices, others: Indices, geometry: Geometry) -> Points:
    """Distance in mm from each of the voxels `points` to the nearest of `others`, both (n, axes), none of them empty.

    By a tree of the others; where either is more than a hundredth of the box around both, by a distance transform of
    the box, which is as exact and does not slow down with their number, but knows no sheared grid.
    """
    both = np.concatenate([points, others])
    low, shape = both.min(0), np.ptp(both, axis=0) + 1
    few = max(len(points), len(others)) < _FEW * shape.prod()
    if few or not _square(geometry):
        distance, _ = cKDTree(world(others, geometry)).query(world(points, geometry))
        return np.asarray(distance)
    empty = np.ones(shape, bool)
    empty[tuple((others - low).T)] = False
    field = ndimage.distance_transform_edt(empty, sampling=geometry.spacing_mm)
    return np.asarray(field[tuple((points - low).T)])


def _square(geometry: Geometry) -> bool:
    """Whether the axes of the grid stand at right angles."""
    axes = geometry.affine[:3, : geometry.ndim]
    axes = axes / np.linalg.norm(axes, axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(geometry.ndim)).max() < 1e-6)


def peak_voxels(reading: "Reading") -> Indices:
    """The voxels that share the maximum, (n, axes); of more than 20,000 an even choice stands for all."""
    values = reading.values.numpy()
    tied = np.flatnonzero(values == values.dtype.type(reading.peak))
    return np.stack(np.unravel_index(tied[:: max(1, len(tied) // _MOST_TIES)], values.shape), 1)
