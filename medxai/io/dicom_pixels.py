"""From stored pixel values to the values of the modality: decode, invert once where a film asks for it, rescale."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_modality_lut

from medxai.errors import InputError
from medxai.io.dicom_files import UNREADABLE, Header

Array = NDArray[Any]


def modality_values(header: Header, film: bool) -> tuple[Array, tuple[str, ...]]:
    """(row, column) float32 values of one file, and the repairs that were made.

    A MONOCHROME1 film is inverted about its stored range, max + min - value, before rescaling, so that dense is
    bright. Slices are never inverted: their rescaled values have a physical unit, and MONOCHROME1 speaks of display.
    """
    dataset = _whole(header)
    stored = _stored(header, dataset)
    repairs: list[str] = []
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        repairs.append("MONOCHROME1 inverted" if film else "MONOCHROME1 concerns display only: values kept")
        stored = sum(_stored_range(dataset)) - stored.astype(np.int64) if film else stored
    if dataset.get("ModalityLUTSequence"):
        repairs.append("modality lookup table applied")
        return np.ascontiguousarray(apply_modality_lut(stored, dataset), np.float32), tuple(repairs)
    slope, intercept = _rescale(header, dataset)
    return np.ascontiguousarray(stored * slope + intercept, np.float32), tuple(repairs)


def _whole(header: Header) -> Dataset:
    try:
        return dcmread(header.path)
    except UNREADABLE as error:
        raise InputError(
            f"{header.path}: the file cannot be read.", found=type(error).__name__, remedy="Restore the file."
        ) from error


def _stored(header: Header, dataset: Dataset) -> Array:
    try:
        array = np.asarray(dataset.pixel_array)
    except UNREADABLE as error:
        syntax = getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "unknown transfer syntax")
        raise InputError(
            f"{header.path}: the pixels cannot be decoded ({syntax}).",
            expected=f"{dataset.Rows} x {dataset.Columns} pixels of {dataset.get('BitsAllocated')} bits",
            found=" ".join(str(error).split())[:200],
            remedy="Restore the file, or install the decoder that the message names.",
        ) from error
    if array.shape != (int(header.dataset.Rows), int(header.dataset.Columns)):
        raise InputError(
            f"{header.path}: the decoded pixels are not what the header promises.",
            expected=f"{header.dataset.Rows} x {header.dataset.Columns}",
            found=f"{array.shape}",
        )
    return array


def _stored_range(dataset: Dataset) -> tuple[int, int]:
    bits = int(dataset.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)


def _rescale(header: Header, dataset: Dataset) -> tuple[float, float]:
    given = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    try:
        slope, intercept = (float(default if v is None else v) for v, default in zip(given, (1.0, 0.0), strict=True))
    except (TypeError, ValueError) as error:
        raise InputError(f"{header.path}: rescale slope or intercept is no number.", found=f"{given}") from error
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise InputError(
            f"{header.path}: this rescale slope or intercept erases the image.",
            expected="a finite slope other than zero",
            found=f"slope {slope}, intercept {intercept}",
            remedy="Repair the header.",
        )
    return slope, intercept
