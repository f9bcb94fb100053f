"""The facts of a DICOM header that place an image, each refused in the name of its file where it is unusable."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medxai.errors import InputError
from medxai.io.dicom.header import Header

Array = NDArray[Any]

_ORTHONORMAL = 1e-3
_NOTED_COSINES = 1e-6
_SAME = 1e-5
_MISSING = {"ImagePositionPatient": "D14", "ImageOrientationPatient": "D15", "PixelSpacing": "D18"}


def refuse_strangers(found: Sequence[Header]) -> None:
    """Raise `InputError` unless all slices are of one kind, shape, unit and frame of reference."""
    _refuse_localizers(found)
    for name, code, fact in _EQUAL:
        _refuse_odd(found, name, code, fact)


def agree(found: Sequence[Header]) -> None:
    """Raise `InputError` unless all slices have one orientation and spacing."""
    for name, code, size in _CLOSE:
        values = np.array([numbers(header, name, size) for header in found])
        apart = np.abs(values - np.median(values, axis=0)).max(axis=1)
        if apart.max() > _SAME:
            odd, usual = int(apart.argmax()), int(apart.argmin())
            raise _differ(name, code, found[odd], values[usual].tolist(), values[odd].tolist())


def plane_shape(header: Header) -> tuple[int, int]:
    """Rows, columns."""
    rows, columns = (int(header.dataset.get(name) or 0) for name in ("Rows", "Columns"))
    if min(rows, columns) < 1:
        raise InputError(
            f"{header.name}: an image of no size.",
            code="D06",
            expected="positive Rows (0028,0010) and Columns (0028,0011)",
            found=f"{rows} rows and {columns} columns",
            remedy="Restore the file.",
        )
    return rows, columns


def plane_axes(header: Header) -> Array:
    """ImageOrientationPatient as the columns (row cosines, column cosines) of a 3 x 2 matrix, exactly orthonormal."""
    cosines = numbers(header, "ImageOrientationPatient", 6).reshape(2, 3)
    if skew(cosines) > _ORTHONORMAL:
        raise InputError(
            f"{header.name}: ImageOrientationPatient (0020,0037) is no pair of perpendicular unit vectors.",
            code="D16",
            expected=f"orthonormal to {_ORTHONORMAL}",
            found=f"{cosines.tolist()}",
            remedy="Repair the header.",
        )
    row = cosines[0] / np.linalg.norm(cosines[0])
    column = cosines[1] - (cosines[1] @ row) * row
    return np.stack([row, column / np.linalg.norm(column)], axis=1)


def skew(cosines: Array) -> float:
    """How far two vectors are from orthonormal."""
    return float(np.abs(cosines @ cosines.T - np.eye(2)).max())


def rounded(header: Header) -> bool:
    """Whether the orientation is orthonormal only after a repair worth telling."""
    return skew(numbers(header, "ImageOrientationPatient", 6).reshape(2, 3)) > _NOTED_COSINES


def plane_spacing(header: Header) -> tuple[float, float]:
    """PixelSpacing: mm between rows, mm between columns."""
    rows, columns = numbers(header, "PixelSpacing", 2)
    if not (0 < rows < np.inf and 0 < columns < np.inf):
        raise InputError(
            f"{header.name}: PixelSpacing (0028,0030) is not positive.",
            code="D18",
            expected="two positive lengths in mm",
            found=f"{rows}, {columns}",
            remedy="Repair the header.",
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
        f"{header.name}: {keyword} is missing or unusable, so the image has no place in the patient.",
        code=_MISSING.get(keyword, "D56"),
        expected=f"{size} numbers",
        found=found,
        remedy="Export the series again with its geometry, or repair the header.",
    )


def _refuse_localizers(found: Sequence[Header]) -> None:
    scouts = [header for header in found if "LOCALIZER" in _image_type(header)]
    if scouts and len(scouts) < len(found):
        raise InputError(
            f"{scouts[0].name}: a localizer lies among the slices.",
            code="D25",
            expected=f"{len(found)} slices of one stack",
            found=f"{len(scouts)} with ImageType (0008,0008) LOCALIZER",
            remedy="Move the localizer out of the folder.",
        )


def _image_type(header: Header) -> tuple[str, ...]:
    words = header.dataset.get("ImageType") or ()
    return (words,) if isinstance(words, str) else tuple(str(word) for word in words)


def _refuse_odd(found: Sequence[Header], name: str, code: str, fact: Callable[[Header], Hashable]) -> None:
    groups: dict[Hashable, list[Header]] = {}
    for header in found:
        groups.setdefault(fact(header), []).append(header)
    if len(groups) > 1:
        (usual, _), *_, (odd, members) = sorted(groups.items(), key=lambda item: -len(item[1]))
        raise _differ(name, code, members[0], usual, odd)


def _differ(name: str, code: str, odd: Header, usual: object, found: object) -> InputError:
    return InputError(
        f"{odd.name}: {name} differs from that of the other slices.",
        code=code,
        expected="the same" if "UID" in name else f"{usual}",
        found="another" if "UID" in name else f"{found}",
        remedy="Keep the slices of one acquisition in the folder (localizers and other stacks in their own).",
    )


def _rescaled(header: Header) -> bool:
    return header.dataset.get("RescaleSlope") is not None or header.dataset.get("RescaleIntercept") is not None


def _text(keyword: str) -> Callable[[Header], str]:
    return lambda header: str(header.dataset.get(keyword) or "")


_EQUAL: tuple[tuple[str, str, Callable[[Header], Hashable]], ...] = (
    ("Modality", "D24", _text("Modality")),
    ("shape", "D25", plane_shape),
    ("FrameOfReferenceUID", "D26", _text("FrameOfReferenceUID")),
    ("PhotometricInterpretation", "D42", _text("PhotometricInterpretation")),
    ("whether values are rescaled (RescaleSlope, RescaleIntercept)", "D37", _rescaled),
    ("whether values go through a ModalityLUTSequence", "D37", lambda h: bool(h.dataset.get("ModalityLUTSequence"))),
    ("the unit of the values (Units, RescaleType)", "D37", lambda h: (_text("Units")(h), _text("RescaleType")(h))),
)
_CLOSE = (("ImageOrientationPatient", "D17", 6), ("PixelSpacing", "D19", 2))
