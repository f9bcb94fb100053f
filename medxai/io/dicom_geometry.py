"""Where DICOM pixels lie: PS3.3 C.7.6.2.1.1, with every fact that it needs checked first.

    LPS(i, j) = ImagePositionPatient + i * PixelSpacing[1] * row_cosines + j * PixelSpacing[0] * column_cosines

and slice k of a series lies at the position of slice 0 plus k equal steps. The step need not be parallel to the
normal: a tilted gantry gives a sheared grid, which the affine states exactly.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medxai.core.geometry import Geometry
from medxai.errors import InputError
from medxai.io.content import blaming
from medxai.io.dicom_facts import agree, numbers, pair, plane_axes, plane_shape, plane_spacing
from medxai.io.dicom_files import Header
from medxai.io.film import flat_geometry

Array = NDArray[Any]
Remarks = tuple[str, ...]

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
    agree(found)
    axes, (rows_mm, columns_mm) = plane_axes(first), plane_spacing(first)
    normal = np.cross(axes[:, 0], axes[:, 1])
    positions = np.array([numbers(header, "ImagePositionPatient", 3) for header in found])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    ordered, positions, heights = [found[n] for n in order], positions[order], heights[order]
    step, remarks = _step(ordered, positions, heights, normal) if len(found) > 1 else (_depth(first, normal), ())
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = axes[:, 0] * columns_mm, axes[:, 1] * rows_mm, step
    lps[:3, 3] = positions[0]
    rows, columns = plane_shape(first.dataset)
    with blaming(first.path):
        return ordered, Geometry.from_lps(lps, (columns, rows, len(found))), remarks


def film_geometry(header: Header) -> tuple[Geometry, Remarks]:
    """The grid (row, column) of a film: where the header places it, else by the convention of `medxai.io.film`.

    Pixel spacing is PixelSpacing, else that of the detector plane, else unknown.
    """
    shape = plane_shape(header.dataset)
    spacing, remarks = _film_spacing(header)
    placed = "ImagePositionPatient" in header.dataset and "ImageOrientationPatient" in header.dataset
    if spacing is None or not placed:
        return flat_geometry(shape, spacing), remarks
    axes, lps = plane_axes(header), np.eye(4)
    lps[:3, 0], lps[:3, 1] = axes[:, 1] * spacing[0], axes[:, 0] * spacing[1]
    lps[:3, 2], lps[:3, 3] = np.cross(axes[:, 0], axes[:, 1]), numbers(header, "ImagePositionPatient", 3)
    return Geometry.from_lps(lps, shape), remarks


def _film_spacing(header: Header) -> tuple[tuple[float, float] | None, Remarks]:
    at_patient, at_detector = pair(header, "PixelSpacing"), pair(header, "ImagerPixelSpacing")
    spacing = at_patient or at_detector
    if spacing is None:
        return None, ("header states no pixel spacing: lengths in millimetres are unknown",)
    if spacing != at_detector:
        return spacing, ()
    return spacing, (
        "pixel spacing is that of the detector plane: lengths in the patient are shorter by magnification",
    )


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
    try:
        thickness = float(header.dataset.get("SliceThickness", np.nan))
    except (TypeError, ValueError):
        thickness = np.nan
    if not 0 < thickness < np.inf:
        raise InputError(
            f"{header.path}: a single slice without SliceThickness has no depth.",
            expected="one positive SliceThickness (mm)",
            found="no number, or several" if np.isnan(thickness) else f"{thickness}",
            remedy="Give the folder of the whole series, or repair the header.",
        )
    return normal * thickness
