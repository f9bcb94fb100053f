"""From stored pixel values to the values of the modality: decoded, rescaled or looked up, a negative inverted once."""

import struct
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

    A MONOCHROME1 film is inverted so that dense is bright: about its stored range, max + min - value, before rescaling;
    where a lookup table gives the values, after it and about the range of the table, which need not be linear. Slices
    are never inverted: their rescaled values have a physical unit, and MONOCHROME1 speaks of display.
    """
    dataset = _whole(header)
    stored = _stored(header, dataset).astype(np.int64)
    repairs: list[str] = []
    negative = dataset.PhotometricInterpretation == "MONOCHROME1"
    if negative:
        repairs.append("MONOCHROME1 inverted" if film else "MONOCHROME1 concerns display only: values kept")
    if dataset.get("ModalityLUTSequence"):
        repairs.append("modality lookup table applied")
        values, table = _looked_up(header, dataset, stored)
        values = table.max() + table.min() - values if negative and film else values
    else:
        slope, intercept = _rescale(header, dataset)
        values = sum(_stored_range(dataset)) - stored if negative and film else stored
        values = values * slope + intercept
    return np.ascontiguousarray(values, np.float32), tuple(repairs)


def _looked_up(header: Header, dataset: Dataset, stored: Array) -> tuple[Array, Array]:
    try:
        entries, first = dataset.ModalityLUTSequence[0].LUTDescriptor[:2]
        whole = np.arange(first, first + (entries or 2**16), dtype=np.int64)
        values, table = (apply_modality_lut(indices, dataset).astype(np.int64) for indices in (stored, whole))
    except (*UNREADABLE, IndexError, struct.error) as error:
        raise InputError(
            f"{header.path}: the modality lookup table is malformed.",
            expected="LUTDescriptor and as many LUTData as it promises",
            found=type(error).__name__,
            remedy="Repair the header.",
        ) from error
    return values, table


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
