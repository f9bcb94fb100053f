"""Boxes: as truth where nobody drew a mask, and as what a threshold makes of the map.

A box is half open in voxels: from the first index to one past the last along each axis. Intersection over union of
boxes is the same in voxels and in millimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy import ndimage

from medxai.core.geometry import Geometry
from medxai.core.volume import Mask
from medxai.errors import MaskError
from medxai.metrics.places import Voxels, components, region, world
from medxai.metrics.ranking import Array
from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, Undefined

Box = Float[ndarray, "2 axes"]

FRACTIONS = tuple(n / 20 for n in range(1, 20))
"""Fractions of the maximum at which the map is cut into boxes."""

OVERLAPS = (0.3, 0.5, 0.7)
"""Overlaps over which the second version of the box accuracy is averaged."""


def box_in_voxels(geometry: Geometry, start: Sequence[int], stop: Sequence[int]) -> Mask:
    """The voxels from `start` to one before `stop`, as a mask. Raises MaskError for a box without a voxel."""
    kept = torch.zeros(geometry.shape, dtype=torch.bool)
    if min(start) < 0:
        raise MaskError("A box begins within the grid.", found=f"{tuple(start)}")
    kept[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return _held(kept, geometry, f"voxels {tuple(start)} to {tuple(stop)}")


def box_in_mm(geometry: Geometry, corner: Sequence[float], other: Sequence[float]) -> Mask:
    """The voxels whose centre lies between two opposite corners in patient millimetres (RAS), as a mask.

    The sides of the box follow the patient's axes, whatever the grid does. Raises MaskError for a box without a voxel
    centre, and GeometryError where the pixel size is unknown.
    """
    _ = geometry.spacing_mm
    axes = [np.arange(n) for n in geometry.shape]
    places = world(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)), geometry)
    ends = np.sort(np.array([corner, other], np.float64), axis=0)
    count = ends.shape[1]
    kept = ((places[:, :count] >= ends[0]) & (places[:, :count] <= ends[1])).all(1)
    return _held(torch.from_numpy(kept.reshape(geometry.shape)), geometry, f"{tuple(corner)} to {tuple(other)} mm")


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


def box_curve(reading: Reading, fractions: Sequence[float] = FRACTIONS) -> BoxCurve:
    """The curve of one case; its truth boxes are those of the parts of the mask. An undefined reading has none."""
    truth, _ = boxes_of(region(reading))
    values = reading.values.numpy()
    largest, any_part = [], []
    for fraction in fractions:
        found, sizes = boxes_of(values >= fraction * reading.peak)
        overlaps = np.array([max((box_iou(box, true) for true in truth), default=0.0) for box in found])
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
    if reading.undefined:
        return Undefined(reading.undefined)
    return float(box_curve(reading, (0.5,)).largest[0])


def _best(hits: Sequence[Array]) -> float:
    return float(np.mean(hits, axis=0).max()) if len(hits) else Undefined("no case has a box")


def _held(kept: torch.Tensor, geometry: Geometry, said: str) -> Mask:
    if not bool(kept.any()):
        raise MaskError("This box holds no voxel of the grid.", expected=f"a box within {geometry}", found=said)
    return Mask(kept, geometry)


METRICS = (
    MetricSpec(
        box_iou_at_half_maximum, "mask", best=1.0, span=(0.0, 1.0), claims=("exact", "shifted"), ties="together"
    ),
)
