"""Size and shape of a finding: what a score may depend on besides the map."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medxai.core.geometry import Geometry
from medxai.metrics.places import Voxels, components, touching, world


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a finding: its parts, its size in mL (cm2 of a film), and of its largest part how long and how full it is.

    `elongation` is the ratio of the largest to the second largest standard deviation along principal axes (1: round);
    `solidity` is the share of the convex hull, NaN for a part too small or too thin to have one.
    """

    parts: int
    size: float
    elongation: float
    solidity: float


def shape(mask: Voxels, geometry: Geometry) -> Shape:
    """The shape of a region in millimetres. Raises GeometryError where the pixel size is unknown."""
    parts, number = components(mask, touching(mask.ndim))
    size = float(mask.sum()) * geometry.voxel_size_mm / (1000 if mask.ndim == 3 else 100)
    if not number:
        return Shape(0, 0.0, float("nan"), float("nan"))
    largest = np.argwhere(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))
    places = world(largest, geometry)
    spread = np.sort(np.linalg.eigvalsh(np.cov(places.T) if len(places) > 1 else np.zeros((3, 3))))[::-1]
    elongation = float(np.sqrt(spread[0] / spread[1])) if spread[1] > 1e-9 * max(spread[0], 1e-9) else float("nan")
    return Shape(number, size, elongation, _solidity(parts == parts[tuple(largest[0])]))


def _solidity(part: Voxels) -> float:
    from skimage.morphology import convex_hull_image

    box = part[next(iter(ndimage.find_objects(part.astype(np.uint8))))]
    if min(box.shape) < 3:
        return float("nan")
    return float(part.sum() / convex_hull_image(box).sum())
