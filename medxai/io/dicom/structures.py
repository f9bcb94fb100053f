"""RT structure sets (PS3.3 A.19, C.8.8.6) as masks: closed contours filled on the slices of the image.

A voxel is inside where its centre is; several contours of one slice combine by exclusive or, so that an inner one is a
hole. A contour must lie in a slice of the image, within a quarter of a step.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset
from skimage.measure import grid_points_in_poly

from medxai.core.geometry import Geometry
from medxai.core.volume import Mask
from medxai.errors import InputError, MaskError
from medxai.io.codes import notice
from medxai.io.dicom.header import UNREADABLE, Header, more_of
from medxai.io.dicom.reference import Reference, same_frame
from medxai.io.dicom.segmentation import only

Array = NDArray[Any]

_FILLED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
_BESIDE = 0.25
_NOTED_BESIDE = 0.01
_ITEMS = ("StructureSetROISequence", "ROIContourSequence")


def is_structure_set(header: Header) -> bool:
    """Whether it is an RT structure set."""
    return header.kind == "RT Structure Set Storage"


def structures(header: Header) -> tuple[int, ...]:
    """The numbers of the regions that have contours."""
    return tuple(_contours(more_of(header, _ITEMS)))


def read_structure(header: Header, label: int | None, reference: Reference | None) -> Mask:
    """Region `label`, or the only one, on the grid of the image. Raises `MaskError`, `InputError`."""
    if reference is None or reference.geometry.ndim != 3 or not reference.frame:
        raise MaskError(
            f"{header.path}: contours have no voxels of their own.",
            code="D47",
            expected="the DICOM series that they were drawn on, with its FrameOfReferenceUID (0020,0052)",
            found="no image" if reference is None else "an image without frame of reference",
            remedy="Give that series as the image (medxai explain), or name it with reference= (--mask-image).",
        )
    facts = more_of(header, _ITEMS)
    try:
        contours = _contours(facts)
        number = only(header, tuple(contours), label, "regions")
        filled = [item for item in contours[number] if item.get("ContourGeometricType") in _FILLED]
        points = [_points(header, item) for item in filled]
        remarks = list(same_frame(header, _frame_of(facts, number), _drawn_on(filled), reference))
    except (*UNREADABLE, MaskError) as error:
        if isinstance(error, (MaskError, InputError)):
            raise
        raise _malformed(header, type(error).__name__) from error
    if skipped := len(contours[number]) - len(filled):
        remarks.append(
            notice("D48", f"{skipped} points and open contours of region {number} enclose nothing: left out")
        )
    if not points:
        raise MaskError(
            f"{header.path}: region {number} encloses nothing.",
            code="D48",
            expected="contours of ContourGeometricType (3006,0042) CLOSED_PLANAR",
            found=f"{skipped} of other types",
            remedy="Close the contours in the program that drew them.",
        )
    region, more = _filled(header, points, reference.geometry)
    return Mask(torch.from_numpy(region), reference.geometry, (*remarks, *more))


def _contours(facts: Dataset) -> dict[int, list[Dataset]]:
    found: dict[int, list[Dataset]] = {}
    for item in facts.get("ROIContourSequence") or ():
        if item.get("ContourSequence"):
            found.setdefault(int(item.ReferencedROINumber), []).extend(item.ContourSequence)
    return found


def _frame_of(facts: Dataset, number: int) -> str:
    regions: Iterable[Dataset] = facts.get("StructureSetROISequence") or ()
    uids = [item.get("ReferencedFrameOfReferenceUID") for item in regions if int(item.ROINumber) == number]
    return str(uids[0] or "") if uids else ""


def _drawn_on(contours: list[Dataset]) -> list[str]:
    """The image of every contour; empty where one of them names none."""
    named = [item.get("ContourImageSequence") for item in contours]
    return [str(images[0].ReferencedSOPInstanceUID) for images in named if images] if all(named) else []


def _points(header: Header, item: Dataset) -> Array:
    """(n, 3) positions in LPS mm."""
    values = np.array(item.ContourData, np.float64)
    stated = item.get("NumberOfContourPoints")
    if (
        len(values) % 3
        or len(values) < 9
        or not np.isfinite(values).all()
        or (stated and int(stated) * 3 != len(values))
    ):
        raise _malformed(header, f"{len(values)} coordinates for {stated} points")
    return values.reshape(-1, 3)


def _filled(header: Header, points: list[Array], grid: Geometry) -> tuple[NDArray[np.bool_], list[str]]:
    region = np.zeros(grid.shape, bool)
    inverse = np.linalg.inv(grid.lps)
    drawn: dict[int, int] = defaultdict(int)
    worst = 0.0
    for contour in points:
        index = contour @ inverse[:3, :3].T + inverse[:3, 3]
        k = int(np.rint(np.median(index[:, 2])))
        beside = float(np.abs(index[:, 2] - k).max())
        worst = max(worst, beside)
        if beside > _BESIDE or not 0 <= k < grid.shape[2]:
            raise MaskError(
                f"{header.path}: a contour lies in no slice of the image.",
                code="D48",
                expected=f"slices 0 to {grid.shape[2] - 1}, within {_BESIDE} of a step",
                found=f"a contour from slice {index[:, 2].min():.2f} to {index[:, 2].max():.2f}",
                remedy="Give the series that the contours were drawn on.",
            )
        drawn[k] += 1
        region[:, :, k] ^= _inside(index[:, :2], grid.shape[:2])
    remarks = [notice("D48", f"{len(points)} contours filled on {len(drawn)} slices")]
    if worst > _NOTED_BESIDE:
        remarks.append(notice("D48", f"contours lie up to {worst:.3f} of a step beside their slices"))
    if bare := max(drawn) - min(drawn) + 1 - len(drawn):
        remarks.append(notice("D48", f"{bare} slices between the first and last contour have none: left empty"))
    if not region.any():
        remarks.append(notice("M03", "mask is empty"))
    return region, remarks


def _inside(corners: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which voxel centres lie inside the polygon."""
    result = np.zeros(shape, bool)
    low = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, np.array(shape))
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, np.array(shape))
    size = tuple(int(n) for n in high - low)
    if min(size) > 0:
        result[low[0] : high[0], low[1] : high[1]] = grid_points_in_poly(size, corners - low)
    return result


def _malformed(header: Header, found: str) -> InputError:
    return InputError(
        f"{header.path}: the contours of the structure set are malformed.",
        code="D48",
        expected="three finite coordinates for each of three points or more (ContourData 3006,0050)",
        found=found,
        remedy="Export the structure set again.",
    )
