"""Boxes: as truth where nobody drew a mask, and as what a threshold makes of the map.

A box is half open in voxels: from the first index to one past the last along each axis. Intersection over union of
boxes is the same in voxels and in millimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy import ndimage

from medxai.core.geometry import Geometry
from medxai.core.volume import Mask
from medxai.errors import MaskError
from medxai.metrics.places import NO_REGION, Voxels, components, region, world
from medxai.metrics.ranking import Array
from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, Undefined

Box = Float[ndarray, "2 axes"]

FRACTIONS = tuple(n / 20 for n in range(1, 20))
"""Fractions of the maximum at which the map is cut into boxes."""

OVERLAPS = (0.3, 0.5, 0.7)
"""Overlaps over which the second version of the box accuracy is averaged."""

_FACE = 0.5 + 1e-6


def box_in_voxels(geometry: Geometry, start: Sequence[int], stop: Sequence[int]) -> Mask:
    """The voxels from `start` to one before `stop`, as a mask. Raises MaskError for a box not within the grid."""
    said = f"voxels {tuple(start)} to {tuple(stop)}"
    if not len(start) == len(stop) == geometry.ndim or min(start) < 0 or (np.array(stop) > geometry.shape).any():
        raise _beyond(geometry, said)
    kept = torch.zeros(geometry.shape, dtype=torch.bool)
    kept[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return _held(kept, geometry, said)


def box_in_mm(geometry: Geometry, corner: Sequence[float], other: Sequence[float]) -> Mask:
    """The voxels whose centre lies between two opposite corners in patient millimetres (RAS), as a mask.

    The sides of the box follow the patient's axes, whatever the grid does; in an axial plane two coordinates, R and A,
    may stand for three. Raises MaskError for a box that leaves the voxels of the grid or holds no centre of one, and
    GeometryError where the pixel size is unknown.
    """
    _ = geometry.spacing_mm
    said = f"{tuple(corner)} to {tuple(other)} mm"
    axial = geometry.ndim == 2 and not {*geometry.axcodes[:2]} & {*"SI"}
    if len(corner) != len(other) or len(corner) not in ({2, 3} if axial else {3}):
        raise _beyond(geometry, said)
    axes = [np.arange(n) for n in geometry.shape]
    places = world(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)), geometry)
    ends = np.sort(np.array([corner, other], np.float64), axis=0)
    count = ends.shape[1]
    corners = np.array([(*corner, *geometry.affine[count:3, 3]) for corner in product(*ends.T)])
    index = geometry.index(corners)[:, : geometry.ndim]
    if (index < -_FACE).any() or (index > np.array(geometry.shape) - 1 + _FACE).any():
        raise _beyond(geometry, said)
    kept = ((places[:, :count] >= ends[0]) & (places[:, :count] <= ends[1])).all(1)
    return _held(torch.from_numpy(kept.reshape(geometry.shape)), geometry, said)


def boxes_of(voxels: Voxels) -> tuple[list[Box], Array]:
    """The boxes of the parts of a region, and the voxels of each; parts touch at a face or an edge (in 2D a corner)."""
    parts, number = components(voxels, ndimage.generate_binary_structure(voxels.ndim, 2))
    found = [np.array([[s.start for s in part], [s.stop for s in part]], float) for part in ndimage.find_objects(parts)]
    return found, np.bincount(parts[parts > 0], minlength=number + 1)[1:]


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    both = np.prod(np.clip(np.minimum(one[1], other[1]) - np.maximum(one[0], other[0]), 0, None))
    return float(both / (np.prod(one[1] - one[0]) + np.prod(other[1] - other[0]) - both))


@dataclass(frozen=True, eq=False)
class BoxCurve:
    """Best overlap with a truth box at each fraction of the maximum: of the largest part's box, and of any part's."""

    fractions: Array
    largest: Array
    any_part: Array


def box_curve(reading: Reading, fractions: Sequence[float] = FRACTIONS) -> BoxCurve | Undefined:
    """The curve of one case, or why it has none; its truth boxes are those of the parts of the mask."""
    truth, _ = boxes_of(region(reading))
    if reading.undefined or not truth:
        return Undefined(reading.undefined or NO_REGION)
    values = reading.values.numpy()
    largest, any_part = [], []
    for fraction in fractions:
        found, sizes = boxes_of(values >= fraction * reading.peak)
        overlaps = np.array([max(box_iou(box, true) for true in truth) for box in found])
        largest.append(overlaps[np.argmax(sizes)])
        any_part.append(overlaps.max())
    return BoxCurve(np.asarray(fractions), np.array(largest), np.array(any_part))


def box_accuracy(cases: Sequence[BoxCurve], overlap: float = 0.5) -> float:
    """Share of cases whose largest part's box overlaps by at least `overlap`, at the threshold best for the cohort.

    Choe et al. 2020 (MaxBoxAcc), in three dimensions SE3D's Max3DBoxAcc; the largest part is that of most voxels.
    """
    return _best([curve.largest >= overlap for curve in cases])


def box_accuracy_v2(cases: Sequence[BoxCurve], overlaps: Sequence[float] = OVERLAPS) -> float:
    """The same with the box of any part, averaged over several overlaps, each at its own best threshold."""
    scores = [_best([curve.any_part >= overlap for curve in cases]) for overlap in overlaps]
    return scores[0] if isinstance(scores[0], Undefined) else float(np.mean(scores))


def box_iou_at_half_maximum(reading: Reading) -> float:
    """Intersection over union of a part's box of the mask with the box of the largest part of S >= max S / 2."""
    curve = box_curve(reading, (0.5,))
    return curve if isinstance(curve, Undefined) else float(curve.largest[0])


def _best(hits: Sequence[Array]) -> float:
    return float(np.mean(hits, axis=0).max()) if len(hits) else Undefined("no case has a box")


def _beyond(geometry: Geometry, said: str) -> MaskError:
    return MaskError("This box does not lie within the grid.", expected=f"a box within {geometry}", found=said)


def _held(kept: torch.Tensor, geometry: Geometry, said: str) -> Mask:
    if not bool(kept.any()):
        raise MaskError("This box holds no voxel of the grid.", expected=f"a box within {geometry}", found=said)
    return Mask(kept, geometry)


METRICS = (
    MetricSpec(
        box_iou_at_half_maximum, "mask", best=1.0, span=(0.0, 1.0), claims=("exact", "shifted"), ties="together"
    ),
)
