"""The stored values of one frame, checked against the header before they are read or decoded.

Native pixels are read by their place in the file; compressed ones are decoded by `Codec`, in a process of its own.
Of each value only the BitsStored bits below HighBit count (PS3.5 8.1.1): what lies beside them is masked, what is
signed is sign-extended.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import RLELossless

from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.dicom.codec import Codec, CodecError
from medxai.io.dicom.codestream import Size, is_whole, rle_segments, size_of
from medxai.io.dicom.facts import plane_shape
from medxai.io.dicom.frames import frame_count
from medxai.io.dicom.header import UNREADABLE, Header, uid_name
from medxai.io.dicom.scan import Pixels

Array = NDArray[Any]

_JPEG_2000 = {f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)}
_JPEG = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81)}
DECODED = {str(RLELossless)} | _JPEG_2000 | _JPEG
RGB_DECODED = _JPEG_2000 | _JPEG - {"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
"""Whose decoders turn YBR into RGB; elsewhere the first sample of YBR is luma itself."""
_FREE_BYTES = 64 * 2**20
_MAX_RATIO = 1000


@dataclass(frozen=True)
class Layout:
    """How the pixels of a frame are stored."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str
    planar: bool
    frames: int

    @property
    def frame_bits(self) -> int:
        """The bits of one native frame."""
        if self.photometric == "YBR_FULL_422":
            return self.rows * self.columns * 2 * self.allocated
        return self.rows * self.columns * self.samples * self.allocated


def layout(header: Header) -> Layout:
    """The stored form that the header promises. Raises `InputError` where it contradicts itself."""
    facts = header.dataset
    rows, columns = plane_shape(header)
    numbers = [facts.get(name) for name in ("SamplesPerPixel", "BitsAllocated", "PixelRepresentation")]
    samples, allocated, signed = (
        default if v is None else int(v) for v, default in zip(numbers, (1, 0, 0), strict=True)
    )
    stored = allocated if facts.get("BitsStored") is None else int(facts.BitsStored)
    high = stored - 1 if facts.get("HighBit") is None else int(facts.HighBit)
    usable = allocated in {1, 8, 16, 32} and 0 < stored <= high + 1 <= allocated and signed in {0, 1}
    if not usable or samples not in {1, 3}:
        raise InputError(
            f"{header.path}: the header describes pixels that cannot be.",
            code="D38",
            expected="1 or 3 samples of 1, 8, 16 or 32 bits, BitsStored and HighBit within BitsAllocated",
            found=f"SamplesPerPixel {samples}, BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}",
            remedy="Export the image again.",
        )
    photometric, planar = str(facts.get("PhotometricInterpretation") or ""), bool(facts.get("PlanarConfiguration"))
    count = frame_count(header)
    return Layout(rows, columns, samples, allocated, stored, high, bool(signed), photometric, planar, count)


def check(header: Header) -> tuple[Layout, tuple[str, ...]]:
    """Whether the file can hold what its header promises, told before a byte of it is read. Raises `InputError`."""
    form, place = layout(header), header.scan.pixels
    if place is None or place.keyword != "PixelData":
        held = f"{place.keyword} (a parametric map)" if place else "no pixel data"
        remedy = "Convert it to NIfTI with a tool that knows it." if place else "Restore the file."
        problem = f"{header.path}: the header describes an image that the file does not hold."
        raise InputError(problem, code="D01", expected="PixelData (7FE0,0010)", found=held, remedy=remedy)
    if place.fragments is not None:
        return form, _check_compressed(header, form, place)
    return form, _check_native(header, form, place)


def stored(header: Header, form: Layout, codec: Codec) -> tuple[Array, tuple[str, ...]]:
    """(row, column) or (row, column, RGB) integers of the frame of this header, and what was repaired in them."""
    place = header.scan.pixels
    if place is None:
        raise InputError(f"{header.path}: no pixel data.", code="D01")
    raw = _native(header, form, place) if place.fragments is None else _decoded(header, form, place, codec)
    return _valid_bits(raw, form) if form.allocated > 1 else (raw.astype(np.int64), ())


def _check_native(header: Header, form: Layout, place: Pixels) -> tuple[str, ...]:
    if not header.scan.syntax.startswith("1.2.840.10008.1.2") or ".4." in header.scan.syntax[17:]:
        problem = f"{header.path}: pixels are stored plain, but the transfer syntax says compressed."
        raise InputError(problem, code="D55", found=uid_name(header.scan.syntax), remedy="Export the image again.")
    needed = -(-form.frame_bits * form.frames // 8)
    if place.length < needed:
        widths = [
            bits for bits in (8, 16, 32) if form.frame_bits // form.allocated * bits * form.frames == 8 * place.length
        ]
        lies = f", as BitsAllocated {widths[0]} would give" if widths else ""
        raise InputError(
            f"{header.path}: the pixel data are shorter than the image.",
            code="D05" if widths else "D01",
            expected=f"{needed} bytes ({form.frames} x {form.rows} x {form.columns} x {form.samples} samples of "
            f"{form.allocated} bits)",
            found=f"{place.length} bytes{lies}",
            remedy="Restore the file; nothing is ever filled in.",
        )
    spare = place.length - needed
    if spare * 8 >= form.frame_bits and spare > 1:
        raise InputError(
            f"{header.path}: the pixel data are longer than the image by a frame or more.",
            code="D05" if spare == needed and form.allocated == 8 else "D04",
            expected=f"{needed} bytes",
            found=f"{place.length} bytes",
            remedy="Correct BitsAllocated, NumberOfFrames, Rows and Columns, or export the image again.",
        )
    return (notice("D04", "bytes after the pixels ignored"),) if spare > 1 else ()


def _check_compressed(header: Header, form: Layout, place: Pixels) -> tuple[str, ...]:
    syntax = header.scan.syntax
    if syntax not in DECODED:
        raise InputError(
            f"{header.path}: no decoder for this compression.",
            code="D11",
            expected="JPEG, JPEG Lossless, JPEG-LS, JPEG 2000, HTJ2K, RLE or none",
            found=f"transfer syntax {syntax} ({uid_name(syntax)})",
            remedy="Convert it to Explicit VR Little Endian (dcmdjpeg, or pydicom with a plug-in that knows it).",
        )
    held, promised = place.length, form.frame_bits * form.frames // 8
    if promised > max(_FREE_BYTES, _MAX_RATIO * held):
        raise InputError(
            f"{header.path}: so few compressed bytes hold no image of that size.",
            code="D10",
            expected=f"at most {_MAX_RATIO} times their size",
            found=f"{held} bytes for an image of {promised}",
            remedy="Restore the file.",
        )
    return ()


def _native(header: Header, form: Layout, place: Pixels) -> Array:
    order = "<" if header.scan.little else ">"
    first_bit = form.frame_bits * header.frame
    content = _bytes(header, place, first_bit // 8, -(-(first_bit % 8 + form.frame_bits) // 8), form.allocated)
    if form.allocated == 1:
        bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
        return bits[first_bit % 8 :][: form.frame_bits].reshape(form.rows, form.columns)
    values = np.frombuffer(content, f"{order}u{form.allocated // 8}")
    if form.photometric == "YBR_FULL_422":
        return values.reshape(form.rows, form.columns // 2, 4)[..., :2].reshape(form.rows, form.columns)
    if form.samples == 1:
        return values.reshape(form.rows, form.columns)
    if form.planar:
        return values.reshape(form.samples, form.rows, form.columns).transpose(1, 2, 0)
    return values.reshape(form.rows, form.columns, form.samples)


def _bytes(header: Header, place: Pixels, first: int, count: int, allocated: int) -> bytes:
    """Bytes of the pixel data; in words of a big endian file, pixels of 8 bits or fewer lie swapped in pairs."""
    swapped = place.words and not header.scan.little and allocated < 16
    early = first % 2 if swapped else 0
    length = early + count + (early + count) % 2 if swapped else count
    content = header.scan.read(place.start + first - early, length)
    if not swapped:
        return content
    pairs = np.frombuffer(content[: len(content) // 2 * 2], ">u2").astype("<u2")
    return pairs.tobytes()[early:][:count]


def _decoded(header: Header, form: Layout, place: Pixels, codec: Codec) -> Array:
    frame = _frame(header, form, place)
    try:
        array = _rle(header, form, frame) if header.scan.syntax == RLELossless else _coded(header, form, frame, codec)
    except (*UNREADABLE, CodecError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{header.name}: the pixels cannot be decoded ({uid_name(header.scan.syntax)}).",
            code="D59" if header.scan.syntax == RLELossless else "D10",
            expected=f"{form.rows} x {form.columns} pixels of {form.allocated} bits",
            found=" ".join(str(error).split())[:200],
            remedy="Restore the file.",
        ) from error
    if array.shape[:2] != (form.rows, form.columns) or array.ndim != (3 if form.samples == 3 else 2):
        raise InputError(
            f"{header.name}: the decoded pixels are not what the header promises.",
            code="D10",
            expected=f"{form.rows} x {form.columns}",
            found=f"{array.shape}",
            remedy="Restore the file.",
        )
    return array


def _frame(header: Header, form: Layout, place: Pixels) -> bytes:
    """The compressed bytes of one frame, its fragments joined."""
    fragments = place.fragments or ()
    if len(fragments) == form.frames + 1:
        return header.scan.read(*fragments[header.frame + 1])
    content = header.scan.read(place.start, place.length)
    tables = [header.dataset.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    offsets = None if None in tables else (tables[0], tables[1])
    try:
        frames: Iterator[bytes] = generate_frames(content, number_of_frames=form.frames, extended_offsets=offsets)
        parts = list(frames)
    except UNREADABLE as error:
        parts = []
        cause: BaseException | None = error
    else:
        cause = None
    if len(parts) != form.frames:
        raise InputError(
            f"{header.path}: the compressed pixels are not cut into the promised frames.",
            code="D01",
            expected=f"{form.frames} frames",
            found=f"{len(parts) or 'an unusable table of them'}",
            remedy="Restore the file.",
        ) from cause
    return parts[header.frame]


def _coded(header: Header, form: Layout, frame: bytes, codec: Codec) -> Array:
    size = size_of(frame)
    expected = Size(form.rows, form.columns, form.samples, form.stored)
    if size is None or (size.rows, size.columns, size.components) != (form.rows, form.columns, form.samples):
        raise InputError(
            f"{header.name}: the compressed pixels are not of the size that the header promises.",
            code="D10",
            expected=f"{expected.rows} x {expected.columns} x {expected.components}",
            found="no frame header" if size is None else f"{size.rows} x {size.columns} x {size.components}",
            remedy="Restore the file.",
        )
    if not is_whole(frame):
        raise InputError(
            f"{header.name}: the compressed pixels are cut short or damaged.",
            code="D10",
            expected="a codestream that ends where it says, with its end mark",
            found=f"{len(frame)} bytes that do not",
            remedy="Restore the file; nothing is ever filled in.",
        )
    facts = {
        "syntax": header.scan.syntax,
        "rows": form.rows,
        "columns": form.columns,
        "samples": form.samples,
        "allocated": form.allocated,
        "stored": form.stored,
        "signed": int(form.signed),
        "photometric": form.photometric,
    }
    return codec.decode(frame, facts)


def _rle(header: Header, form: Layout, frame: bytes) -> Array:
    segments, needed = rle_segments(frame), form.frame_bits // 8
    expected = form.samples * max(form.allocated // 8, 1)
    if segments is None or len(segments) != expected or len(frame) > 2 * needed + 4096:
        raise InputError(
            f"{header.name}: the run-length coded pixels are malformed.",
            code="D59",
            expected=f"{expected} segments",
            found="a broken segment table" if segments is None else f"{len(segments)} segments, {len(frame)} bytes",
            remedy="Restore the file.",
        )
    from pydicom.encaps import encapsulate

    packed = form.allocated == 1
    array, _ = get_decoder(RLELossless).as_array(
        encapsulate([frame]),
        index=0,
        rows=1 if packed else form.rows,
        columns=-(-form.frame_bits // 8) if packed else form.columns,
        number_of_frames=1,
        samples_per_pixel=form.samples,
        bits_allocated=8 if packed else form.allocated,
        bits_stored=8 if packed else form.stored,
        pixel_representation=int(form.signed),
        photometric_interpretation=form.photometric,
        planar_configuration=1,
        pixel_keyword="PixelData",
        raw=True,
    )
    if packed:
        return np.unpackbits(array, bitorder="little")[: form.frame_bits].reshape(form.rows, form.columns)
    return np.asarray(array)


def _valid_bits(raw: Array, form: Layout) -> tuple[Array, tuple[str, ...]]:
    """The BitsStored bits of each value, right-aligned; signed where the header says so."""
    if form.stored == form.allocated == 8 * raw.dtype.itemsize and raw.dtype.kind in "iu":
        kind = "i" if form.signed else "u"
        return raw.astype(raw.dtype.newbyteorder("=")).view(f"{kind}{raw.dtype.itemsize}").astype(np.int64), ()
    words = raw.astype(np.int64) & (2**form.allocated - 1)
    shift, width = form.high + 1 - form.stored, 2**form.stored
    low = words >> shift & (width - 1)
    values = np.where(low >= width // 2, low - width, low) if form.signed else low
    above, below = words >> (form.high + 1), words & (2**shift - 1)
    extension = np.where(values < 0, 2 ** (form.allocated - form.high - 1) - 1, 0)
    if below.any() or not (np.array_equal(above, extension) or not above.any()):
        return values, (notice("D38", "bits beside the stored ones masked (overlay, or values that do not fit)"),)
    if extension.any() and not above.any():
        return values, (notice("D39", "signed values narrower than their words: sign extended"),)
    return values, ()
