"""The facts of a DICOM header that place an image, each refused in the name of its file where it is unusable."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from medxai.errors import InputError
from medxai.io.dicom_files import Header

Array = NDArray[Any]

_ORTHONORMAL = 1e-3
_SAME_COSINES = 1e-5
_SAME_SPACING = 1e-5


def agree(found: Sequence[Header]) -> None:
    """Raise `InputError` unless all slices have the shape, spacing, orientation and frame of the first."""
    first = found[0]
    for other in found[1:]:
        for name, fact in _EQUAL.items():
            if fact(first.dataset) != fact(other.dataset):
                raise _differ(name, first, other, fact(first.dataset), fact(other.dataset))
        for name, (size, tolerance) in _CLOSE.items():
            here, there = numbers(first, name, size), numbers(other, name, size)
            if np.abs(here - there).max() > tolerance:
                raise _differ(name, first, other, here.tolist(), there.tolist())


def _differ(name: str, first: Header, other: Header, here: object, there: object) -> InputError:
    return InputError(
        f"{other.path}: {name} differs from that of {first.path.name}.",
        expected="the same" if "UID" in name else f"{here}",
        found="another" if "UID" in name else f"{there}",
        remedy="Keep the slices of one acquisition in the folder (localizers and other stacks in their own).",
    )


def plane_shape(dataset: Dataset) -> tuple[int, int]:
    """Rows, columns."""
    return int(dataset.Rows), int(dataset.Columns)


def plane_axes(header: Header) -> Array:
    """ImageOrientationPatient as the columns (row cosines, column cosines) of a 3 x 2 matrix, exactly orthonormal."""
    cosines = numbers(header, "ImageOrientationPatient", 6).reshape(2, 3)
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


def plane_spacing(header: Header) -> tuple[float, float]:
    """PixelSpacing: mm between rows, mm between columns."""
    rows, columns = numbers(header, "PixelSpacing", 2)
    if not (0 < rows < np.inf and 0 < columns < np.inf):
        raise InputError(
            f"{header.path}: PixelSpacing is not positive.", found=f"{rows}, {columns}", remedy="Repair the header."
        )
    return float(rows), float(columns)


def pair(header: Header, keyword: str) -> tuple[float, float] | None:
    """Two numbers of a tag that need not be there."""
    if header.dataset.get(keyword) is None:
        return None
    rows, columns = numbers(header, keyword, 2)
    return float(rows), float(columns)


def numbers(header: Header, keyword: str, size: int) -> Array:
    """The `size` finite numbers of a tag that must be there."""
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


def _rescaled(dataset: Dataset) -> bool:
    return dataset.get("RescaleSlope") is not None or dataset.get("RescaleIntercept") is not None


_EQUAL: dict[str, Callable[[Dataset], object]] = {
    "shape": plane_shape,
    "FrameOfReferenceUID": lambda dataset: dataset.get("FrameOfReferenceUID"),
    "whether values are rescaled": _rescaled,
}
_CLOSE = {"ImageOrientationPatient": (6, _SAME_COSINES), "PixelSpacing": (2, _SAME_SPACING)}
