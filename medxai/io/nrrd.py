"""The header of a NRRD file, attached (.nrrd) or beside its data (.nhdr)."""

import re
from pathlib import Path
from typing import Literal

import numpy as np

from medxai.errors import InputError
from medxai.io.text_header import Fields, Stored, beside, choice, counts, header_lines, malformed, numbers, square

_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_SPACES = {
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1),
}
_SHORT = {"ras": "right-anterior-superior", "las": "left-anterior-superior", "lps": "left-posterior-superior"}
_SPATIAL = ("domain", "space", "none", "???")
_VECTOR = re.compile(r"\(([^()]*)\)|none")


def read_nrrd_header(path: Path) -> Stored:
    """What a NRRD header says. Raises `InputError`."""
    lines, end = header_lines(path, lambda line: not line.strip())
    fields = _fields(path, lines)
    rank = counts(path, fields, "dimension", 1)[0]
    shape = counts(path, fields, "sizes", rank)
    packing: Literal["raw", "zlib"] = (
        "zlib" if choice(path, fields, "encoding", {"raw": "", "gzip": "z", "gz": "z"}) else "raw"
    )
    kind = choice(path, fields, "type", _TYPES)
    order = choice(path, fields, "endian", {"little": "<", "big": ">"}) if kind[1] != "1" else "|"
    name = fields.get("data file", fields.get("datafile", ""))
    data = beside(path, name) if name else path
    channels, vectors = _axes(path, fields, rank)
    lps, placed = _place(path, fields, rank - (channels is not None), vectors)
    skip = _skip(path, fields, packing)
    offset = skip if skip < 0 else skip + (0 if name else end)
    return Stored(shape, channels, order + kind, data, offset, packing, lps, placed)


def _fields(path: Path, lines: list[str]) -> Fields:
    fields: dict[str, str] = {}
    for number, line in enumerate(lines[1:], 2):
        if line.startswith("#") or ":=" in line or not line.strip():
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or name in fields:
            raise malformed(path, f"line {number}", "each field once, as 'name: value'", "another")
        fields[name] = value.strip()
    return fields


def _skip(path: Path, fields: Fields, packing: str) -> int:
    words = [fields.get("line skip", fields.get("lineskip", "0")), fields.get("byte skip", fields.get("byteskip", "0"))]
    usable = words[0] == "0" and (words[1].isdigit() or (words[1] == "-1" and packing == "raw"))
    if not usable:
        raise malformed(path, "line skip or byte skip", "a number of bytes", " ".join(words), code="N25")
    return int(words[1])


def _axes(path: Path, fields: Fields, rank: int) -> tuple[int | None, list[list[float]] | None]:
    """Which axis holds channels, and the vectors of the axes of space where they are given."""
    kinds = fields.get("kinds", "").lower().split() or ["domain"] * rank
    words = _VECTOR.findall(fields.get("space directions", ""))
    given = [m.group(0) for m in _VECTOR.finditer(fields.get("space directions", ""))]
    stated = "space directions" in fields
    if len(kinds) != rank or (stated and len(given) != rank):
        raise malformed(path, "kinds or space directions", f"one for each of {rank} axes", fields.get("kinds", ""))
    outside = [a for a in range(rank) if (given[a] == "none" if stated else kinds[a] not in _SPATIAL)]
    if len(outside) > 1 or rank - len(outside) not in (2, 3) or "complex" in kinds:
        raise InputError(
            f"{path}: not one 2D or 3D image of real numbers.",
            expected="two or three axes of space, and at most one of channels",
            found=f"{rank} axes, sizes {fields['sizes']}, kinds {' '.join(kinds)}",
            remedy="Save each volume to its own file.",
            code="N27" if "complex" in kinds else "N14",
        )
    channels = outside[0] if outside else None
    if not stated:
        return channels, None
    spatial = [words[a] for a in range(rank) if a != channels]
    return channels, [_vector(path, "space directions", word, len(spatial)) for word in spatial]


def _vector(path: Path, name: str, inner: str, size: int) -> list[float]:
    return numbers(path, {name: inner.replace(",", " ")}, name, size)


def _place(path: Path, fields: Fields, size: int, vectors: list[list[float]] | None) -> tuple[np.ndarray, bool]:
    """The affine to LPS, and whether its world is the patient's."""
    space = fields.get("space", "").strip('"').lower()
    signs = _SPACES.get(_SHORT.get(space, space))
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", ""))) - {"mm", ""}
    if units:
        raise malformed(path, "space units", '"mm"', " ".join(units), code="N11")
    if vectors is None:
        words = [word for word in fields.get("spacings", "1 " * size).split() if word.lower() != "nan"]
        steps = numbers(path, {"spacings": " ".join(words)}, "spacings", size)
        vectors = np.diag(steps).tolist()
    inner = re.fullmatch(r"\((.*)\)", fields.get("space origin", "").strip())
    origin = _vector(path, "space origin", inner.group(1), size) if inner else [0.0] * size
    if "space origin" in fields and inner is None:
        raise malformed(path, "space origin", "(x,y,z)", fields["space origin"])
    lps = square([*vectors, origin])
    if signs is not None:
        lps = np.diag([*signs, 1.0]) @ lps
    return lps, signs is not None or size == 2
