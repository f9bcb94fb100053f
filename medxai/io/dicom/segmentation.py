"""DICOM segmentations (PS3.3 A.51, C.8.20) as masks: binary, fractional and label map, every frame at its position.

A file may leave out empty frames. So a frame is placed by what it says of its own position, on the grid of the image
where the two coincide, else on the segmentation's own grid, extended until it covers the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medxai.core.annotation import Annotation, SoftMask
from medxai.core.geometry import Geometry
from medxai.core.volume import Mask
from medxai.errors import InputError, MaskError
from medxai.io.codes import notice
from medxai.io.content import blaming
from medxai.io.dicom.codec import Codec
from medxai.io.dicom.facts import agree, numbers, plane_axes, plane_shape, plane_spacing
from medxai.io.dicom.frames import frames
from medxai.io.dicom.header import Header, more_of
from medxai.io.dicom.pixels import check, stored
from medxai.io.dicom.reference import Reference, same_frame
from medxai.io.options import ReadOptions

Array = NDArray[Any]

_ON_GRID = 0.01
_SAME_PLANE_MM = 1e-3


@dataclass(frozen=True, eq=False)
class _Lattice:
    """LPS = affine @ (column, row, slice, 1); frame n is slice `slices[n]`."""

    affine: Array
    slices: NDArray[np.int64]


def is_segmentation(header: Header) -> bool:
    """Whether it is a segmentation of voxels."""
    return header.kind in {"Segmentation Storage", "Label Map Segmentation Storage"}


def segments(header: Header) -> tuple[int, ...]:
    """The numbers of the segments, background left out."""
    items = more_of(header, ["SegmentSequence"]).get("SegmentSequence") or ()
    return tuple(int(item.SegmentNumber) for item in items if "SegmentNumber" in item and int(item.SegmentNumber) > 0)


def read_segmentation(
    header: Header, label: int | None, options: ReadOptions, reference: Reference | None
) -> Annotation:
    """Segment `label`, or the only one; its shares where `options.soft`. Raises `MaskError`, `InputError`."""
    number = only(header, segments(header), label, "segments")
    form, _ = check(header)
    planes = frames(header)
    agree(planes)
    remarks: list[str] = []
    if reference is not None:
        remarks += same_frame(header, str(header.dataset.get("FrameOfReferenceUID") or ""), (), reference)
    labelmap = str(header.dataset.get("SegmentationType")) == "LABELMAP"
    with Codec(options.max_bytes) as codec:
        chosen = [
            (n, stored(plane, form, codec)[0])
            for n, plane in enumerate(planes)
            if labelmap or plane.dataset.get("ReferencedSegmentNumber") == number
        ]
    if str(header.dataset.get("SegmentationType")) == "FRACTIONAL":
        regions, more = _fractional(header, [pixels for _, pixels in chosen], options)
        remarks += more
    else:
        regions = [pixels == (number if labelmap else 1) for _, pixels in chosen]
    lattice = _lattice(header, planes, reference)
    grid, moved = _grid(header, planes, lattice, reference, options)
    region, lost = _placed(grid, moved, [lattice.slices[n] for n, _ in chosen], regions)
    if lost:
        remarks.append(notice("D46", f"{lost} voxels of the segment lie outside the image"))
    remarks.append(notice("D46", f"segment {number}: {len(chosen)} frames placed by position"))
    if reference is None:
        remarks.append(notice("D46", "no image given: the grid ends with the frames that the file holds"))
    if not region.any():
        remarks.append(notice("M03", "mask is empty"))
    data = torch.from_numpy(region)
    return SoftMask(data.float(), grid, tuple(remarks)) if options.soft else Mask(data, grid, tuple(remarks))


def only(header: Header, known: Sequence[int], label: int | None, what: str) -> int:
    """The number that is wanted of those known. Raises `MaskError`."""
    if label in known and label is not None:
        return label
    if label is None and len(known) == 1:
        return known[0]
    listed = ", ".join(map(str, known[:20])) or "none"
    raise MaskError(
        f"{header.path}: {'the file has no such number' if label is not None else f'the file holds several {what}'}.",
        code="M05",
        expected=f"one of its {what}",
        found=listed if label is None else f"{label}; it holds {listed}",
        remedy="Choose one with label=N (--label N); `medxai inspect` names them.",
    )


def _fractional(header: Header, pixels: Sequence[Array], options: ReadOptions) -> tuple[list[Array], list[str]]:
    most = int(header.dataset.get("MaximumFractionalValue") or 255)
    if options.soft:
        return [plane.astype(np.float32) / np.float32(most) for plane in pixels], []
    if all(np.isin(plane, (0, most)).all() for plane in pixels):
        return [plane == most for plane in pixels], []
    if options.threshold is None:
        raise MaskError(
            f"{header.path}: the segmentation is fractional, and a mask is not.",
            code="M07",
            expected=f"0 or {most} in every voxel",
            found="values between",
            remedy="Say from which share on a voxel is foreground with threshold=0.5 (--threshold 0.5), or score by "
            "the shares with soft=True (--soft).",
        )
    text = f"fractional segmentation: foreground from a share of {options.threshold:g} on"
    return [plane >= options.threshold * most for plane in pixels], [notice("M07", text)]


def _lattice(header: Header, planes: Sequence[Header], reference: Reference | None) -> _Lattice:
    axes, (rows_mm, columns_mm) = plane_axes(planes[0]), plane_spacing(planes[0])
    positions = np.array([numbers(plane, "ImagePositionPatient", 3) for plane in planes])
    normal = np.cross(axes[:, 0], axes[:, 1])
    heights = positions @ normal
    step = _step(header, planes[0], positions, heights, normal, reference)
    rise = heights - heights.min()
    slices = np.rint(rise / (step @ normal)).astype(np.int64)
    start = positions[int(heights.argmin())]
    off = np.linalg.norm(positions - start - slices[:, None] * step, axis=1).max()
    if off > 0.05 * np.linalg.norm(step):
        raise InputError(
            f"{header.path}: the frames of the segmentation lie on no even grid.",
            code="D46",
            expected=f"positions at multiples of {np.linalg.norm(step):.4g} mm",
            found=f"frames up to {off:.4g} mm beside",
            remedy="Export the segmentation again.",
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = axes[:, 0] * columns_mm, axes[:, 1] * rows_mm, step
    affine[:3, 3] = start
    return _Lattice(affine, slices)


def _step(
    header: Header, first: Header, positions: Array, heights: Array, normal: Array, reference: Reference | None
) -> Array:
    """From one slice to the next: the step of the image where it runs the same way, else what the file says."""
    if reference is not None and reference.geometry.ndim == 3:
        step = reference.geometry.lps[:3, 2]
        along = float(step @ normal)
        if abs(along) > 0.9 * float(np.linalg.norm(step)):
            multiples = (heights - heights.min()) / abs(along)
            if np.abs(multiples - np.rint(multiples)).max() < 0.05:
                return np.asarray(step * np.sign(along))
    stated = first.dataset.get("SpacingBetweenSlices")
    gaps = np.diff(np.unique(np.rint(heights / _SAME_PLANE_MM) * _SAME_PLANE_MM))
    length = float(gaps.min()) if len(gaps) else float(stated or first.dataset.get("SliceThickness") or 0)
    if stated and len(gaps) and np.abs(gaps / float(stated) - np.rint(gaps / float(stated))).max() < 0.05:
        length = float(stated)
    if not 0 < length < np.inf:
        raise InputError(
            f"{header.path}: one frame without SpacingBetweenSlices or SliceThickness has no depth.",
            code="D30",
            expected="SpacingBetweenSlices (0018,0088)",
            found="none",
            remedy="Give the image that it belongs to, or export the segmentation again.",
        )
    lowest, highest = int(heights.argmin()), int(heights.argmax())
    span = heights[highest] - heights[lowest]
    direction = (positions[highest] - positions[lowest]) / span if span > 0 else normal
    return np.asarray(direction * length)


def _grid(
    header: Header, planes: Sequence[Header], lattice: _Lattice, reference: Reference | None, options: ReadOptions
) -> tuple[Geometry, Array]:
    """The grid of the mask, and the affine from (column, row, slice) of the file to its indices."""
    rows, columns = plane_shape(planes[0])
    shape = (columns, rows, int(lattice.slices.max()) + 1)
    if reference is None:
        with blaming(header.path, "D46"):
            return Geometry.from_lps(lattice.affine, shape), np.eye(4)
    target = reference.geometry
    onto = np.linalg.inv(target.lps) @ lattice.affine
    whole = np.rint(onto)
    drift = np.abs((onto - whole) @ np.array([*shape, 1.0])).max()
    if target.ndim == 3 and drift < _ON_GRID and abs(abs(np.linalg.det(whole[:3, :3])) - 1) < 1e-6:
        return target, whole
    corners = np.array(list(product(*[(0, n - 1) for n in target.shape3])), np.float64)
    inverse = np.linalg.inv(onto)
    seen = corners @ inverse[:3, :3].T + inverse[:3, 3]
    low = np.minimum(np.floor(seen.min(axis=0)), 0)
    high = np.maximum(np.ceil(seen.max(axis=0)), np.array(shape) - 1)
    size = tuple(int(n) for n in high - low + 1)
    if int(np.prod(size, dtype=object)) > options.max_bytes:
        raise InputError(
            f"{header.path}: on the grid of the segmentation the image does not fit into the permitted memory.",
            code="D07",
            expected=f"at most {options.max_gib:g} GiB",
            found=" x ".join(map(str, size)),
            remedy="Permit more with max_gib (--max-gib).",
        )
    shift, back = np.eye(4), np.eye(4)
    shift[:3, 3], back[:3, 3] = low, -low
    with blaming(header.path, "D46"):
        return Geometry.from_lps(lattice.affine @ shift, size), back


def _placed(grid: Geometry, moved: Array, slices: Sequence[Any], regions: Sequence[Array]) -> tuple[Array, int]:
    """The region, or the shares, on the grid, and how many of its voxels fell outside."""
    region = np.zeros(grid.shape3, regions[0].dtype if regions else bool)
    lost = 0
    for k, plane in zip(slices, regions, strict=True):
        row, column = np.nonzero(plane)
        index = np.stack([column, row, np.full(len(row), int(k))], 1) @ moved[:3, :3].T + moved[:3, 3]
        index = np.rint(index).astype(np.int64)
        within = ((index >= 0) & (index < region.shape)).all(axis=1)
        lost += int((~within).sum())
        region[tuple(index[within].T)] = plane[row, column][within]
    return region, lost
