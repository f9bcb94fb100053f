"""Where DICOM pixels lie: PS3.3 C.7.6.2.1.1, with every fact that it needs checked first.

    LPS(i, j) = ImagePositionPatient + i * PixelSpacing[1] * row_cosines + j * PixelSpacing[0] * column_cosines

and slice k of a series lies at the position of slice 0 plus k equal steps. The step need not be parallel to the
normal: a tilted gantry gives a sheared grid, which the affine states exactly.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from medxai.core.geometry import Geometry
from medxai.errors import InputError
from medxai.io.content import blaming
from medxai.io.dicom_files import Header
from medxai.io.picture import flat_geometry

Array = NDArray[Any]
Remarks = tuple[str, ...]

_ORTHONORMAL = 1e-3
_SAME_COSINES = 1e-4
_SAME_SPACING = 1e-5
_SAME_PLANE_MM = 1e-3
_UNEVEN = 0.01
_NOTED_MM = 1e-3
_NOTED_TILT = 1e-3


def stack(found: Sequence[Header]) -> tuple[list[Header], Geometry, Remarks]:
    """The slices in the order of their positions along their common normal, their grid (column, row, slice), remarks.

    Raises `InputError` for slices that differ in shape, spacing, orientation or frame of reference, that share a
    plane, or whose steps differ by more than 1 % of a step.
    """
    first = found[0]
    _agree(found)
    axes, positions = _axes(first), np.array([_numbers(h, "ImagePositionPatient", 3) for h in found])
    normal = np.cross(axes[:, 0], axes[:, 1])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    ordered, positions, heights = [found[n] for n in order], positions[order], heights[order]
    step, remarks = (_depth(first, normal), ()) if len(found) == 1 else _step(ordered, positions, heights, normal)
    rows_mm, columns_mm = _spacing(first)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = axes[:, 0] * columns_mm, axes[:, 1] * rows_mm, step
    lps[:3, 3] = positions[0]
    shape = (int(first.dataset.Columns), int(first.dataset.Rows), len(found))
    with blaming(first.path):
        return ordered, Geometry.from_lps(lps, shape), remarks


def film_geometry(header: Header) -> tuple[Geometry, Remarks]:
    """The grid (row, column) of a film: where the header places it, else by the convention for pictures.

    Pixel spacing is PixelSpacing, else that of the detector plane, else unknown.
    """
    dataset = header.dataset
    shape = _shape(dataset)
    at_patient, at_detector = _optional(header, "PixelSpacing"), _optional(header, "ImagerPixelSpacing")
    spacing, remarks = at_patient or at_detector, ()
    if spacing is None:
        remarks = ("header states no pixel spacing: lengths in millimetres are unknown",)
    elif spacing == at_detector:
        remarks = ("pixel spacing is that of the detector plane: lengths in the patient are shorter by magnification",)
    flat = flat_geometry(shape, spacing)
    if spacing is None or "ImagePositionPatient" not in dataset or "ImageOrientationPatient" not in dataset:
        return flat, remarks
    axes, lps = _axes(header), np.eye(4)
    lps[:3, 0], lps[:3, 1] = axes[:, 1] * spacing[0], axes[:, 0] * spacing[1]
    lps[:3, 2], lps[:3, 3] = np.cross(axes[:, 0], axes[:, 1]), _numbers(header, "ImagePositionPatient", 3)
    return Geometry.from_lps(lps, shape), remarks


def _agree(found: Sequence[Header]) -> None:
    first = found[0]
    for other in found[1:]:
        for name, here, there in (
            ("shape", _shape(first.dataset), _shape(other.dataset)),
            ("FrameOfReferenceUID", *(h.dataset.get("FrameOfReferenceUID") for h in (first, other))),
            ("whether values are rescaled", *(_rescaled(h.dataset) for h in (first, other))),
        ):
            if here != there:
                raise _differ(name, first, other, here, there)
        for name, tolerance, size in (
            ("ImageOrientationPatient", _SAME_COSINES, 6),
            ("PixelSpacing", _SAME_SPACING, 2),
        ):
            here, there = _numbers(first, name, size), _numbers(other, name, size)
            if np.abs(here - there).max() > tolerance:
                raise _differ(name, first, other, here.tolist(), there.tolist())


def _differ(name: str, first: Header, other: Header, here: object, there: object) -> InputError:
    return InputError(
        f"{other.path}: {name} differs from that of {first.path.name}.",
        expected=f"{here}" if "UID" not in name else "one frame of reference",
        found=f"{there}" if "UID" not in name else "two",
        remedy="Keep the slices of one acquisition in the folder (localizers and other stacks in their own).",
    )


def _rescaled(dataset: Dataset) -> bool:
    return dataset.get("RescaleSlope") is not None or dataset.get("RescaleIntercept") is not None


def _shape(dataset: Dataset) -> tuple[int, int]:
    return int(dataset.Rows), int(dataset.Columns)


def _axes(header: Header) -> Array:
    cosines = _numbers(header, "ImageOrientationPatient", 6).reshape(2, 3)
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > _ORTHONORMAL:
        raise InputError(
            f"{header.path}: ImageOrientationPatient is no pair of perpendicular unit vectors.",
            expected=f"orthonormal to {_ORTHONORMAL}",
            found=f"{cosines.tolist()}",
            remedy="Repair the header.",
        )
    row = cosines[0] / np.linalg.norm(cosines[0])
    column = cosines[1] - (cosines[1] @ row) * row
    return np.stack([row, column / np.linalg.norm(column)], axis=1)


def _step(ordered: Sequence[Header], positions: Array, heights: Array, normal: Array) -> tuple[Array, Remarks]:
    gaps = np.diff(heights)
    if gaps.min() < _SAME_PLANE_MM:
        n = int(gaps.argmin())
        raise InputError(
            f"{ordered[n + 1].path}: lies in the same plane as {ordered[n].path.name}.",
            expected="one slice per position",
            found=f"two at {heights[n]:.3f} mm along the normal",
            remedy="Keep one of them; time points, echoes and reconstructions belong in their own folders.",
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    off = np.linalg.norm(positions - positions[0] - np.arange(len(positions))[:, None] * step, axis=1)
    usual = float(np.median(gaps))
    if off.max() > _UNEVEN * usual:
        odd = int(np.abs(gaps - usual).argmax())
        raise InputError(
            f"{ordered[odd].path.parent}: the slices are not evenly spaced; one or more may be missing.",
            expected=f"equal steps (the median is {usual:.4g} mm, the others within {_UNEVEN:.0%})",
            found=f"steps from {gaps.min():.4g} to {gaps.max():.4g} mm, slices up to {off.max():.4g} mm off; "
            f"the step from {ordered[odd].path.name} to {ordered[odd + 1].path.name} is {gaps[odd]:.4g} mm",
            remedy="Restore the missing slices, or resample the series to even spacing first.",
        )
    remarks = []
    if off.max() > _NOTED_MM:
        remarks.append(f"slice positions deviate from equal steps by up to {off.max():.4f} mm")
    tilt = float(np.linalg.norm(np.cross(step, normal)) / np.linalg.norm(step))
    if tilt > _NOTED_TILT:
        angle = np.degrees(np.arcsin(tilt))
        remarks.append(f"slices are sheared by {angle:.2f} degrees (tilted gantry): kept exactly in the affine")
    return step, tuple(remarks)


def _depth(header: Header, normal: Array) -> Array:
    thickness = header.dataset.get("SliceThickness")
    if thickness is None or not 0 < float(thickness) < np.inf:
        raise InputError(
            f"{header.path}: a single slice without SliceThickness has no depth.",
            expected="a positive SliceThickness (mm)",
            found=f"{thickness}",
            remedy="Give the folder of the whole series.",
        )
    return normal * float(thickness)


def _spacing(header: Header) -> tuple[float, float]:
    rows, columns = _numbers(header, "PixelSpacing", 2)
    if not (0 < rows < np.inf and 0 < columns < np.inf):
        raise InputError(
            f"{header.path}: PixelSpacing is not positive.", found=f"{rows}, {columns}", remedy="Repair the header."
        )
    return float(rows), float(columns)


def _optional(header: Header, keyword: str) -> tuple[float, float] | None:
    if header.dataset.get(keyword) is None:
        return None
    rows, columns = _numbers(header, keyword, 2)
    return float(rows), float(columns)


def _numbers(header: Header, keyword: str, size: int) -> Array:
    try:
        values = np.array(header.dataset.get(keyword), np.float64)
    except (TypeError, ValueError) as error:
        raise _missing(header, keyword, size, "text") from error
    if values.shape != (size,) or not np.isfinite(values).all():
        raise _missing(header, keyword, size, f"{header.dataset.get(keyword)}")
    return values


def _missing(header: Header, keyword: str, size: int, found: str) -> InputError:
    return InputError(
        f"{header.path}: {keyword} is missing or unusable, so the image has no place in the patient.",
        expected=f"{size} numbers",
        found=found,
        remedy="Export the series again with its geometry, or repair the header.",
    )
