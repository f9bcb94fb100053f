"""The header of a NIfTI-1 or NIfTI-2 file, every field that voxels depend on checked before any voxel is read."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.source import Source

Array = NDArray[Any]
Order = Literal["little", "big"]

_SIZES = {348: (b"n+1\0", 352), 540: (b"n+2\0", 544)}
_COLOURS = {128: "RGB", 2304: "RGBA"}
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 32: "c8", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8",
    1280: "u8", 1792: "c16",
}  # fmt: skip
_TEXT = (b"<!doctype html", b"<html", b"<?xml")


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """Where the voxels are stored and as what; `fields` holds all that the header says, by NIfTI's own names."""

    fields: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    notices: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all voxels."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def scaled(self) -> bool:
        """Whether values are slope * stored + inter rather than what is stored."""
        return (self.slope, self.inter) != (1.0, 0.0)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A field as float64."""
        return np.array(self.fields[name], np.float64)


def is_nifti(start: bytes) -> bool:
    """Whether these first bytes (unpacked) are the header of a NIfTI or Analyze file."""
    return _order(start) is not None


def read_header(source: Source) -> NiftiHeader:
    """The header at the start of `source`, which is then at the byte behind it. Raises `InputError`."""
    from nibabel import nifti1, nifti2

    path, start = source.path, source.read(348)
    order = _order(start)
    size = int.from_bytes(start[:4], order) if order else 0
    if order is None or (size == 540 and len(start := start + source.read(192)) < 540) or len(start) < 348:
        raise _no_header(path, start)
    dtype = np.dtype(nifti1.header_dtype if size == 348 else nifti2.header_dtype).newbyteorder(order)
    fields = np.frombuffer(start, dtype)[0]
    magic, first = _SIZES[size]
    if fields["magic"].ljust(4, b"\0")[:4] != magic:
        raise _no_magic(path, bytes(fields["magic"]))
    shape = _shape(path, fields["dim"])
    slope, inter, notices = _scaling(path, fields)
    return NiftiHeader(fields, shape, _dtype(path, fields, order), _offset(path, fields, first), slope, inter, notices)


def _order(start: bytes) -> Order | None:
    orders: tuple[Order, ...] = ("little", "big")
    return next((order for order in orders if int.from_bytes(start[:4], order) in _SIZES), None)


def _no_header(path: Path, start: bytes) -> InputError:
    text = start.lstrip().lower().startswith(_TEXT)
    if _order(start):
        return InputError(
            f"{path}: the file ends inside its header.",
            expected="a header of 348 or 540 bytes",
            found=f"{len(start)} bytes",
            remedy="Copy or download it again.",
            code="N17",
        )
    return InputError(
        f"{path}: not a NIfTI file.",
        expected="a header of 348 or 540 bytes",
        found="what looks like an HTML page" if text else "none",
        remedy="Download it again; the page may say what went wrong." if text else "Check what the file is.",
        code="N22",
    )


def _no_magic(path: Path, magic: bytes) -> InputError:
    pair = magic.rstrip(b"\0") in (b"ni1", b"ni2")
    return InputError(
        f"{path}: not a NIfTI file of one piece.",
        expected="a header marked n+1 or n+2",
        found="half of a .hdr/.img pair" if pair else f"the mark {magic.decode('latin-1')!r}, as in Analyze files",
        remedy="Convert .hdr/.img pairs and Analyze files (whose orientation is undefined) to .nii first.",
        code="N29" if pair else "N30",
    )


def _shape(path: Path, dim: Array) -> tuple[int, ...]:
    count = int(dim[0])
    shape = tuple(int(n) for n in dim[1 : count + 1]) if 1 <= count <= 7 else ()
    if not shape or min(shape) < 1:
        raise InputError(
            f"{path}: the header's dim describes no array.",
            expected="dim[0] of 1 to 7 and as many positive sizes",
            found=f"dim {dim.tolist()}",
            remedy="Write the file again with a tool that knows its shape.",
            code="N23",
        )
    return shape


def _dtype(path: Path, fields: Any, order: Order) -> np.dtype[Any]:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    kind = np.dtype([(c, "u1") for c in _COLOURS[code]]) if code in _COLOURS else np.dtype(_TYPES.get(code, "V"))
    if not kind.itemsize or bits != 8 * kind.itemsize:
        raise InputError(
            f"{path}: the header's datatype and bitpix describe no voxel.",
            expected=f"bitpix {8 * kind.itemsize} for datatype {code}" if kind.itemsize else "a datatype that is read",
            found=f"datatype {code}, bitpix {bits}",
            remedy="Write the file again with a known type, e.g. int16 or float32.",
            code="N26",
        )
    return kind.newbyteorder(order)


def _offset(path: Path, fields: Any, first: int) -> int:
    offset = float(fields["vox_offset"])
    if not (first <= offset < 2**53 and offset == int(offset)):
        raise InputError(
            f"{path}: vox_offset does not point behind the header.",
            expected=f"a whole number from {first} on",
            found=f"{offset:g}",
            remedy="Write the file again, or repair the field if you know where the voxels begin.",
            code="N25",
        )
    return int(offset)


def _scaling(path: Path, fields: Any) -> tuple[float, float, tuple[str, ...]]:
    """Slope, intercept; a slope that is 0 or no number means that values are stored as they are."""
    slope, inter = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0, (notice("N13", "the slope is no number: values read as stored"),) if slope else ()
    if not (np.isfinite(slope) and np.isfinite(inter)):
        raise InputError(
            f"{path}: the header scales voxels by what is no number.",
            expected="finite scl_slope and scl_inter",
            found=f"scl_slope {slope:g}, scl_inter {inter:g}",
            remedy="Set both to 0 if the voxels need no scaling.",
            code="N13",
        )
    return slope, inter, ()
