"""The header of a MetaImage file, attached (.mha) or beside its data (.mhd)."""

from pathlib import Path
from typing import Literal

import numpy as np

from medxai.errors import InputError
from medxai.io.text_header import Fields, Stored, beside, choice, counts, header_lines, malformed, numbers, square

_TYPES = {
    "met_char": "i1", "met_uchar": "u1", "met_short": "i2", "met_ushort": "u2", "met_int": "i4", "met_uint": "u4",
    "met_long_long": "i8", "met_ulong_long": "u8", "met_float": "f4", "met_double": "f8",
}  # fmt: skip
_BOOLEAN = {"true": "1", "false": "", "1": "1", "0": "", "t": "1", "f": "", "yes": "1", "no": ""}
_DATA = "elementdatafile"


def read_meta_header(path: Path) -> Stored:
    """What a MetaImage header says. Raises `InputError`."""
    lines, end = header_lines(path, lambda line: line.replace(" ", "").lower().startswith(f"{_DATA}="))
    fields = _fields(path, lines)
    rank = counts(path, fields, "ndims", 1)[0]
    components = counts(path, fields, "elementnumberofchannels", 1)[0] if "elementnumberofchannels" in fields else 1
    _refuse(path, fields, rank)
    sizes = counts(path, fields, "dimsize", rank)
    kind = choice(path, fields, "elementtype", _TYPES)
    big = _first(fields, "binarydatabyteordermsb", "elementbyteordermsb")
    order = (">" if choice(path, fields, big, _BOOLEAN) else "<") if big else "<"
    packing: Literal["raw", "zlib"] = "zlib" if choice(path, fields, "compresseddata", _BOOLEAN, "false") else "raw"
    local = fields[_DATA].upper() == "LOCAL"
    skip = 0 if local else int(numbers(path, {"headersize": "0", **fields}, "headersize", 1)[0])
    lps, placed = _place(path, fields, rank)
    shape = sizes if components == 1 else (components, *sizes)
    channels = None if components == 1 else 0
    data = path if local else beside(path, fields[_DATA])
    return Stored(shape, channels, order + kind, data, end if local else skip, packing, lps, placed)


def _fields(path: Path, lines: list[str]) -> Fields:
    fields: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = line.partition("=")
        if not line.strip() or name.strip().lower() in ("comment", "name", "id", "parentid"):
            continue
        name = name.strip().lower()
        if not equals or name in fields:
            raise malformed(path, f"line {number}", "each field once, as 'Name = value'", "another")
        fields[name] = value.strip()
    return fields


def _refuse(path: Path, fields: Fields, rank: int) -> None:
    slope, shift = (f"elementtointensityfunction{word}" for word in ("slope", "offset"))
    scaled = [numbers(path, {slope: "1", shift: "0", **fields}, name, 1)[0] for name in (slope, shift)]
    problem = ""
    if rank not in (2, 3):
        problem, code = f"{rank} axes", "N14"
    elif _DATA not in fields:
        problem, code = "no ElementDataFile", "N22"
    elif fields.get("objecttype", "image").lower() != "image":
        problem, code = f"an object of type {fields['objecttype']}", "N22"
    elif fields.get("binarydata", "true").lower() not in ("true", "1", "t", "yes"):
        problem, code = "voxels written as text", "N26"
    elif scaled != [1.0, 0.0]:
        problem, code = "an intensity function, which readers differ about", "N13"
    if problem:
        raise InputError(
            f"{path}: not one 2D or 3D image of real numbers.",
            expected="two or three axes of binary voxels",
            found=problem,
            remedy="Save each volume to its own file, as binary voxels.",
            code=code,
        )


def _first(fields: Fields, *names: str) -> str:
    return next((name for name in names if name in fields), "")


def _place(path: Path, fields: Fields, rank: int) -> tuple[np.ndarray, bool]:
    """The affine to LPS; without any spacing the file does not say how far apart voxels are."""
    spacing, origin = _first(fields, "elementspacing", "elementsize"), _first(fields, "offset", "position", "origin")
    matrix = _first(fields, "transformmatrix", "orientation", "rotation")
    steps = numbers(path, fields, spacing, rank) if spacing else [1.0] * rank
    if min(steps) <= 0:
        raise malformed(path, spacing, "positive numbers", fields[spacing], code="N07")
    axes = np.reshape(numbers(path, fields, matrix, rank * rank), (rank, rank)) if matrix else np.eye(rank)
    start = numbers(path, fields, origin, rank) if origin else [0.0] * rank
    vectors = [[float(v) * step for v in axis] for axis, step in zip(axes, steps, strict=True)]
    return square([*vectors, start]), bool(spacing)
