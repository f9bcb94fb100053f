"""The text headers of NRRD and MetaImage files, read strictly: sizes, types and numbers that are not plain are refused.

Both name what an array of voxels is, where its bytes are, and its place in an LPS world; `Stored` is that, once read.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medxai.errors import InputError
from medxai.shapes import Affine

Fields = Mapping[str, str]

MOST = 2**16
_COUNT = re.compile(r"0*[1-9]\d{0,11}", re.ASCII)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True, eq=False)
class Stored:
    """Voxels as stored: `shape` fastest axis first, `channels` the axis that is none of space, bytes at `offset`.

    `offset` counts from the start of `data`; a negative one means that the voxels end where the file ends.
    """

    shape: tuple[int, ...]
    channels: int | None
    dtype: str
    data: Path
    offset: int
    packing: Literal["raw", "zlib"]
    lps: Affine
    placed: bool


def numbers(path: Path, fields: Fields, name: str, count: int) -> list[float]:
    """The `count` finite decimal numbers of a field, with a point. Raises `InputError`."""
    words = fields[name].split()
    if len(words) != count or not all(_NUMBER.fullmatch(word) for word in words):
        comma = " A comma is no decimal point." if "," in fields[name] else ""
        raise malformed(path, name, f"{count} decimal numbers", fields[name], comma)
    return [float(word) for word in words]


def counts(path: Path, fields: Fields, name: str, count: int) -> tuple[int, ...]:
    """The `count` positive integers of a field. Raises `InputError`."""
    words = fields.get(name, "").split()
    if len(words) != count or not all(_COUNT.fullmatch(word) for word in words):
        raise malformed(path, name, f"{count} positive integers", fields.get(name, "nothing"), code="N23")
    return tuple(int(word) for word in words)


def choice(path: Path, fields: Fields, name: str, table: Mapping[str, str], missing: str = "") -> str:
    """What the field's value means, by the table. Raises `InputError`."""
    value = fields.get(name, missing).strip().lower()
    if value not in table:
        code = "N26" if "type" in name else "N32"
        raise malformed(path, name, f"one of {', '.join(table)}", value or "nothing", code=code)
    return table[value]


def beside(path: Path, name: str) -> Path:
    """The data file of that name in the folder of its header, nowhere else. Raises `InputError`."""
    if not name or Path(name).name != name or name.upper() == "LIST" or "%" in name:
        raise malformed(
            path, "the data file", "the name of one file in the same folder", "a path, a list or nothing", code="N25"
        )
    found = path.parent / name
    if not found.is_file():
        raise malformed(path, "the data file", "the file that the header names, beside it", "none", code="N25")
    return found


def malformed(path: Path, name: str, expected: str, found: str, more: str = "", code: str = "N32") -> InputError:
    """The error for a field that cannot be read."""
    return InputError(
        f"{path}: {name} in the header cannot be read.",
        expected=expected,
        found=f"{found[:80]!r}.{more}".removesuffix("."),
        remedy="Repair the header, or write the file again.",
        code=code,
    )


def header_lines(path: Path, last: Callable[[str], bool]) -> tuple[list[str], int]:
    """The lines of a text header up to its `last` or the end of the file, and where the bytes behind them begin."""
    with path.open("rb") as file:
        start = file.read(MOST)
    lines, at = [], 0
    while (end := start.find(b"\n", at)) >= 0:
        line, at = start[at:end].rstrip(b"\r").decode("latin-1"), end + 1
        lines.append(line)
        if last(line):
            return lines, at
    if len(start) < MOST:
        return [*lines, start[at:].decode("latin-1").rstrip("\r")], len(start)
    raise malformed(path, "the end", "a text header of at most 64 KiB", "none", code="N32")


def square(rows: list[list[float]]) -> Affine:
    """Axis vectors and an origin, each of two or three components, as the columns of a 4 x 4 matrix."""
    affine = np.eye(4)
    for column, vector in zip((*range(len(rows) - 1), 3), rows, strict=True):
        affine[: len(vector), column] = vector
    return affine
