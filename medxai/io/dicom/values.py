"""From stored values to the values of the modality: rescaled or looked up, a negative inverted once, colour refused."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut

from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.dicom.codec import Codec
from medxai.io.dicom.header import UNREADABLE, Header
from medxai.io.dicom.pixels import RGB_DECODED, Layout, check, stored
from medxai.io.options import ReadOptions

Array = NDArray[Any]

GRAY = ("MONOCHROME1", "MONOCHROME2")
_LUMA = np.array([0.299, 0.587, 0.114])
_YBR = ("YBR_FULL", "YBR_FULL_422")
_COLOURS = ("PALETTE COLOR", "RGB", *_YBR, "YBR_ICT", "YBR_RCT")


def refuse_colour(header: Header, options: ReadOptions) -> None:
    """Raise `InputError` for an image that is not gray, unless its luma is wanted."""
    photometric = str(header.dataset.get("PhotometricInterpretation") or "")
    if photometric in GRAY or (options.gray and photometric in _COLOURS):
        return
    palette = photometric == "PALETTE COLOR"
    raise InputError(
        f"{header.path}: the image is not gray.",
        code="D41" if palette else "D42",
        expected="PhotometricInterpretation (0028,0004) MONOCHROME1 or MONOCHROME2",
        found=photometric if photometric in _COLOURS else "another or none",
        remedy="Permit its luma with gray (--gray)." if photometric in _COLOURS else "Export the image again.",
    )


def modality_values(header: Header, film: bool, options: ReadOptions, codec: Codec) -> tuple[Array, tuple[str, ...]]:
    """(row, column) float32 values of one frame, and the repairs that were made.

    A MONOCHROME1 film is inverted so that dense is bright: about its stored range, max + min - value, before rescaling;
    where a lookup table gives the values, after it and about the range of the table, which need not be linear. Slices
    are never inverted: their rescaled values have a physical unit, and MONOCHROME1 speaks of display.
    """
    refuse_colour(header, options)
    form, remarks = check(header)
    raw, repairs = stored(header, form, codec)
    if form.photometric not in GRAY:
        values, more = _luma(header, form, raw)
        return np.ascontiguousarray(values, np.float32), (*remarks, *repairs, *more)
    values, more = _gray(header, form, raw, film)
    padding = _padding(header, form, raw)
    if padding is not None and padding.any():
        if options.nan_padding:
            values = np.where(padding, np.nan, values)
        done = "read as NaN" if options.nan_padding else "kept as values"
        more = (*more, notice("D40", f"pixels hold PixelPaddingValue, the mark of no data: {done}"))
    return _single(header, values), (*remarks, *repairs, *more)


def rescale(header: Header) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept, or DoseGridScaling; 1 and 0 where they are not stated."""
    given = header.dataset.get("RescaleSlope"), header.dataset.get("RescaleIntercept")
    if header.dataset.get("DoseGridScaling") is not None:
        given = header.dataset.DoseGridScaling, None
    try:
        slope, intercept = (float(default if v is None else v) for v, default in zip(given, (1.0, 0.0), strict=True))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{header.name}: rescale slope or intercept is no number.",
            code="D56",
            found=f"{given}",
            remedy="Repair the header.",
        ) from error
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise InputError(
            f"{header.name}: this rescale slope or intercept erases the image.",
            code="D35",
            expected="a finite RescaleSlope (0028,1053) other than zero",
            found=f"slope {slope}, intercept {intercept}",
            remedy="Repair the header.",
        )
    return slope, intercept


def _single(header: Header, values: Array) -> Array:
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(values, np.float32)
    if np.isinf(result).any():
        raise InputError(
            f"{header.name}: rescaling leads beyond the range of float32.",
            code="D35",
            expected="RescaleSlope (0028,1053) and RescaleIntercept (0028,1052) of a scanner",
            found=f"values up to {np.nanmax(np.abs(values)):.3g}",
            remedy="Repair the header.",
        )
    return result


def _gray(header: Header, form: Layout, raw: Array, film: bool) -> tuple[Array, tuple[str, ...]]:
    repairs: list[str] = []
    negative = form.photometric == "MONOCHROME1"
    if negative:
        text = "MONOCHROME1 inverted" if film else "MONOCHROME1 concerns display only: values kept"
        repairs.append(notice("D31", text))
    if header.dataset.get("ModalityLUTSequence"):
        repairs.append(notice("D33", "modality lookup table applied"))
        values, table = _looked_up(header, raw)
        values = table.max() + table.min() - values if negative and film else values
    else:
        slope, intercept = rescale(header)
        values = sum(_stored_range(form)) - raw if negative and film else raw
        values = values * slope + intercept
    return values, tuple(repairs)


def _looked_up(header: Header, raw: Array) -> tuple[Array, Array]:
    dataset = header.dataset
    try:
        entries, first = dataset.ModalityLUTSequence[0].LUTDescriptor[:2]
        whole = np.arange(first, first + (entries or 2**16), dtype=np.int64)
        values, table = (apply_modality_lut(indices, dataset).astype(np.int64) for indices in (raw, whole))
    except UNREADABLE as error:
        raise _malformed(header, "modality lookup table", "D33", error) from error
    return values, table


def _luma(header: Header, form: Layout, raw: Array) -> tuple[Array, tuple[str, ...]]:
    if form.photometric == "PALETTE COLOR":
        try:
            colours = apply_color_lut(raw.astype(np.uint32), _palette(header.dataset))
        except UNREADABLE as error:
            raise _malformed(header, "palette", "D41", error) from error
        return colours @ _LUMA, (notice("D41", "palette applied and turned into luma"),)
    if form.photometric in _YBR and header.scan.syntax not in RGB_DECODED:
        luma = raw if raw.ndim == 2 else raw[..., 0]
        return luma, (notice("D42", "colour turned into luma"),)
    return raw @ _LUMA, (notice("D42", "colour turned into luma"),)


def _palette(facts: Dataset) -> Dataset:
    palette = Dataset()
    for element in facts:
        if "PaletteColorLookupTable" in element.keyword:
            palette.add(element)
    return palette


def _malformed(header: Header, what: str, code: str, error: BaseException) -> InputError:
    return InputError(
        f"{header.name}: the {what} is malformed.",
        code=code,
        expected="LUTDescriptor and as many LUTData as it promises",
        found=type(error).__name__,
        remedy="Repair the header.",
    )


def _padding(header: Header, form: Layout, raw: Array) -> Array | None:
    """Which pixels hold PixelPaddingValue, or lie between it and PixelPaddingRangeLimit."""
    given = [header.dataset.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if given[0] is None:
        return None
    width = 2**form.allocated
    ends = [
        int(value) - width if form.signed and int(value) >= width // 2 else int(value)
        for value in given
        if value is not None
    ]
    return np.asarray((raw >= min(ends)) & (raw <= max(ends)))


def _stored_range(form: Layout) -> tuple[int, int]:
    return (-(2 ** (form.stored - 1)), 2 ** (form.stored - 1) - 1) if form.signed else (0, 2**form.stored - 1)
