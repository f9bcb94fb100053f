"""What a DICOM file is made of, walked element by element before anything believes it (PS3.5 and PS3.10, 7).

Only tags and lengths are read. Every length must end inside the file and inside its sequence, nesting and the number of
elements are limited, a deflated data set is unpacked against a limit, and the pixel data are found but not loaded.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from pathlib import Path

from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.source import unreadable

MAX_DEPTH = 32
MAX_ELEMENTS = 400_000
MAX_HEADER = 64 * 2**20
_FREE_INFLATION = 64 * 2**20
_MAX_RATIO = 200
_UNDEFINED = 0xFFFFFFFF
_LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
_SHORT = set(re.findall(r"..", "AEASATCSDADSDTFDFLISLOLTPNSHSLSSSTTMUIULUS"))
_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_FIRST_TAGS = {
    0x00020000,
    0x00020001,
    0x00020002,
    0x00080000,
    0x00080001,
    0x00080005,
    0x00080008,
    0x00080012,
    0x00080016,
}
_POLYGLOTS = {b"MZ": "Windows program", b"\x7fELF": "Linux program", b"%PDF": "PDF", b"PK\x03\x04": "ZIP"}
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Pixels:
    """Where the value of the pixel data lies; `fragments` are the items of encapsulated data, offset table first.

    `words` is whether it is stored as 16-bit words (OW), whose bytes are swapped in big endian files.
    """

    keyword: str
    start: int
    length: int
    fragments: tuple[tuple[int, int], ...] | None = None
    words: bool = True


@dataclass(frozen=True, eq=False)
class Scan:
    """A file whose structure holds: where its data set begins, how it is written, where the pixels are."""

    path: Path
    syntax: str
    start: int
    pixels: Pixels | None
    notices: tuple[str, ...] = ()
    unpacked: bytes | None = None

    @property
    def implicit(self) -> bool:
        return self.syntax == str(ImplicitVRLittleEndian)

    @property
    def little(self) -> bool:
        return self.syntax != str(ExplicitVRBigEndian)

    def open(self) -> BufferedIOBase:
        """The bytes that `start` and `pixels` count in."""
        return BytesIO(self.unpacked) if self.unpacked is not None else self.path.open("rb")

    def read(self, start: int, length: int) -> bytes:
        """Exactly these bytes. Raises `InputError` where the file vanished or shrank since it was scanned."""
        try:
            with self.open() as file:
                file.seek(start)
                content = file.read(length)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if len(content) != length:
            raise InputError(
                f"{self.path}: the file changed while it was read.",
                code="D64",
                expected=f"{length} bytes from byte {start} on",
                found=f"{len(content)}",
                remedy="Read it again when nothing writes to it.",
            )
        return content


class _BrokenError(Exception):
    """The walk cannot go on; `args` are code, problem, found."""


def scan(path: Path) -> Scan | None:
    """The structure of the file at `path`; None where nothing in it is DICOM. Raises `InputError`."""
    try:
        with path.open("rb") as file:
            return _scan(path, file)
    except OSError as error:
        raise unreadable(path, error) from error
    except _BrokenError as error:
        code, problem, found = error.args
        remedy = "Restore the file, or remove it from the folder if it is no part of the series."
        raise InputError(f"{path}: {problem}", code=code, found=found, remedy=remedy) from error


def is_dicom(start: bytes) -> bool:
    """Whether these first bytes carry the mark of a DICOM file."""
    return start[128:132] == b"DICM"


def _scan(path: Path, file: BufferedIOBase) -> Scan | None:
    size = file.seek(0, 2)
    head = _take(file, 0, 132)
    if not is_dicom(head):
        return _unmarked(path, file, size)
    syntax, start = _meta(file, size, 132)
    remarks = _preamble(head)
    if syntax is None:
        syntax, pixels = _guess(file, size, start, "D53" if start > 132 else "D52")
        return Scan(path, syntax, start, pixels, (*remarks, _guessed("transfer syntax is not stated", syntax)))
    if syntax == DeflatedExplicitVRLittleEndian:
        content = _inflate(file, start)
        return Scan(path, syntax, 0, _walk(BytesIO(content), 0, len(content), syntax), remarks, content)
    return Scan(path, syntax, start, _declared(file, size, start, syntax), remarks)


def _preamble(head: bytes) -> tuple[str, ...]:
    names = [name for mark, name in _POLYGLOTS.items() if head.startswith(mark)]
    names += ["TIFF"] if head.startswith(_TIFFS) else []
    return tuple(notice("D65", f"the file's first bytes are also those of a {name} file") for name in names)


def _unmarked(path: Path, file: BufferedIOBase, size: int) -> Scan | None:
    first = _take(file, 0, 8)
    if len(first) < 8 or not {_tag(first, "<"), _tag(first, ">")} & _FIRST_TAGS:
        return None
    syntax, start = _meta(file, size, 0) if first[:2] == b"\x02\0" else (None, 0)
    if syntax is None or syntax == DeflatedExplicitVRLittleEndian:
        syntax, pixels = _guess(file, size, start)
    else:
        pixels = _declared(file, size, start, syntax)
    return Scan(path, syntax, start, pixels, (_guessed("no preamble", syntax),))


def _guessed(what: str, syntax: str) -> str:
    names = dict(zip(_NATIVE, ("implicit little", "explicit little", "explicit big"), strict=True))
    return notice("D53", f"{what}: read as {names.get(syntax, 'stated')} endian" if syntax in names else what)


def _meta(file: BufferedIOBase, size: int, position: int) -> tuple[str | None, int]:
    """The transfer syntax and where the data set begins; group 2 is always explicit little endian."""
    syntax = None
    while len(head := _take(file, position, 12)) >= 8 and head[:2] == b"\x02\0":
        tag, _, length, start = _explicit(head, position, "<")
        if start + length > size:
            raise _BrokenError(
                "D58" if length > size else "D03",
                f"the file meta information is broken at {_name(tag)}.",
                f"a value of {length} bytes where {max(size - start, 0)} remain",
            )
        if tag == 0x00020010:
            syntax = _take(file, start, length).rstrip(b"\0 ").decode("latin-1") or None
        position = start + length
    if syntax is not None and not (set(syntax) <= set("0123456789.") and len(syntax) <= 64):
        raise _BrokenError("D52", "the transfer syntax is no identifier.", "other characters than digits and dots")
    return syntax, position


def _declared(file: BufferedIOBase, size: int, start: int, syntax: str) -> Pixels | None:
    try:
        return _walk(file, start, size, syntax)
    except _BrokenError as error:
        others = [other for other in _NATIVE if other != syntax and _walks(file, size, start, other)]
        if not others:
            raise
        raise _BrokenError(
            "D55", "the data set is not written in the transfer syntax that it declares.", f"{others[0].name} data"
        ) from error


def _guess(file: BufferedIOBase, size: int, start: int, code: str = "D53") -> tuple[str, Pixels | None]:
    fitting = [syntax for syntax in _NATIVE if _walks(file, size, start, syntax)]
    if len(fitting) != 1:
        found = "data that fit none" if not fitting else "data that fit several"
        raise _BrokenError(code, "no transfer syntax is stated, and it cannot be told from the data.", found)
    return fitting[0], _walk(file, start, size, fitting[0])


def _walks(file: BufferedIOBase, size: int, start: int, syntax: str) -> bool:
    try:
        _walk(file, start, size, syntax)
    except _BrokenError:
        return False
    return start < size


def _walk(file: BufferedIOBase, start: int, size: int, syntax: str) -> Pixels | None:
    return _Walk(file, size, syntax).run(start)


@dataclass
class _Level:
    end: int | None
    item: bool
    implicit: bool


class _Walk:
    """One pass over the tags and lengths of a data set, as far as its pixel data."""

    def __init__(self, file: BufferedIOBase, size: int, syntax: str) -> None:
        self.file, self.size = file, size
        self.implicit = syntax == ImplicitVRLittleEndian
        self.order = ">" if syntax == ExplicitVRBigEndian else "<"
        self.levels: list[_Level] = []
        self.seen: set[int] = set()

    def run(self, start: int) -> Pixels | None:
        position, count = start, 0
        while True:
            while self.levels and self.levels[-1].end == position:
                self.levels.pop()
            if position == self.size and not self.levels:
                return None
            position, pixels = self.step(position)
            if pixels is not None:
                return pixels
            count += 1
            if count > MAX_ELEMENTS or position - start > MAX_HEADER:
                raise _BrokenError("D57", "the header is larger than any image needs.", f"{count} elements or more")

    def step(self, position: int) -> tuple[int, Pixels | None]:
        head = _take(self.file, position, 12)
        if len(head) < 8:
            raise _BrokenError("D03", "the header ends in the middle of an element.", f"{len(head)} bytes of a tag")
        if (tag := _tag(head, self.order)) >> 16 == 0xFFFE:
            return self.delimiter(tag, position, struct.unpack(self.order + "I", head[4:8])[0]), None
        if self.levels and not self.levels[-1].item:
            raise _BrokenError(
                "D57", f"{_name(tag)} stands in a sequence outside its items.", "an element without item"
            )
        implicit = self.levels[-1].implicit if self.levels else self.implicit
        read = _implicit if implicit else _explicit
        tag, kind, length, start = read(head, position, self.order)
        if not self.levels:
            self.once(tag)
        if tag in _PIXELS and not self.levels:
            return start, self.pixels(tag, start, length, kind != "OB")
        if length == _UNDEFINED or kind == "SQ":
            self.enter(tag, kind, start, length)
            return start, None
        self.check(tag, start, length)
        return start + length, None

    def once(self, tag: int) -> None:
        if tag in self.seen:
            raise _BrokenError("D57", f"{_name(tag)} stands twice in the header.", "two values, of which one is wrong")
        self.seen.add(tag)

    def check(self, tag: int, start: int, length: int) -> None:
        end = next((level.end for level in reversed(self.levels) if level.end is not None), self.size)
        if start + length <= min(end, self.size):
            return
        code = "D03" if start + length > self.size and length <= self.size else "D58"
        problem = f"the header ends at {_name(tag)}." if code == "D03" else f"{_name(tag)} claims more than there is."
        raise _BrokenError(code, problem, f"a value of {length} bytes where {max(end - start, 0)} remain")

    def enter(self, tag: int, kind: str, start: int, length: int) -> None:
        if kind not in {"SQ", "UN"}:
            raise _BrokenError(
                "D57", f"{_name(tag)} is of undefined length, but no sequence.", f"a value of type {kind}"
            )
        if length != _UNDEFINED:
            self.check(tag, start, length)
        if len(self.levels) >= 2 * MAX_DEPTH:
            raise _BrokenError("D57", f"sequences are nested deeper than {MAX_DEPTH}.", f"{_name(tag)} deeper still")
        implicit = kind == "UN" or (self.levels[-1].implicit if self.levels else self.implicit)
        self.levels.append(_Level(None if length == _UNDEFINED else start + length, False, implicit))

    def delimiter(self, tag: int, position: int, length: int) -> int:
        inside = self.levels[-1] if self.levels else None
        if tag == _ITEM and inside is not None and not inside.item:
            if length != _UNDEFINED:
                self.check(tag, position + 8, length)
            self.levels.append(_Level(None if length == _UNDEFINED else position + 8 + length, True, inside.implicit))
            return position + 8
        closes = {_ITEM_END: True, _SEQUENCE_END: False}
        if inside is None or inside.end is not None or closes.get(tag) is not inside.item:
            raise _BrokenError("D57", "a delimiter stands where nothing is to delimit.", f"tag {tag:08X}")
        self.levels.pop()
        return position + 8

    def pixels(self, tag: int, start: int, length: int, words: bool) -> Pixels:
        if length != _UNDEFINED:
            if start + length > self.size:
                raise _BrokenError(
                    "D02", "the file ends before its pixels do.", f"{self.size - start} of {length} bytes"
                )
            return Pixels(_PIXELS[tag], start, length, words=words)
        fragments = tuple(self.fragments(start))
        return Pixels(_PIXELS[tag], start, fragments[-1][0] + fragments[-1][1] - start if fragments else 0, fragments)

    def fragments(self, position: int) -> Iterator[tuple[int, int]]:
        while True:
            head = _take(self.file, position, 8)
            if len(head) < 8:
                raise _BrokenError("D02", "the file ends before its compressed pixels do.", "no end of the pixel data")
            tag, length = _tag(head, "<"), struct.unpack("<I", head[4:])[0]
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise _BrokenError("D57", "the compressed pixels are not cut into items.", f"tag {tag:08X}")
            if position + 8 + length > self.size:
                raise _BrokenError(
                    "D02", "the file ends before its compressed pixels do.", f"a fragment of {length} bytes"
                )
            yield position + 8, length
            position += 8 + length


def _explicit(head: bytes, position: int, order: str) -> tuple[int, str, int, int]:
    """Tag, type, length and start of the value of an element with a stated type."""
    tag, kind = _tag(head, order), head[4:6].decode("latin-1")
    if kind in _SHORT:
        return tag, kind, struct.unpack(order + "H", head[6:8])[0], position + 8
    if kind not in _LONG or len(head) < 12:
        found = f"type {kind!r}" if len(head) == 12 else "the end of the file"
        raise _BrokenError("D55" if len(head) == 12 else "D03", f"{_name(tag)} states no type of DICOM.", found)
    return tag, kind, struct.unpack(order + "I", head[8:12])[0], position + 12


def _implicit(head: bytes, position: int, order: str) -> tuple[int, str, int, int]:
    """The same of an element whose type only the dictionary knows."""
    tag, length = _tag(head, order), struct.unpack(order + "I", head[4:8])[0]
    known = DicomDictionary.get(tag, ("SQ" if length == _UNDEFINED else "UN",))[0]
    return tag, "SQ" if length == _UNDEFINED and known == "UN" else known, length, position + 8


def _tag(head: bytes, order: str) -> int:
    group, element = struct.unpack(order + "HH", head[:4])
    return int(group << 16 | element)


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword_for_tag(tag)}".rstrip()


def _take(file: BufferedIOBase, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def _inflate(file: BufferedIOBase, start: int) -> bytes:
    """The deflated data set, unpacked piece by piece: a bomb is refused before it takes its memory."""
    file.seek(start)
    unpack, parts, read, made = zlib.decompressobj(-zlib.MAX_WBITS), list[bytes](), 0, 0
    try:
        while not unpack.eof and (piece := unpack.unconsumed_tail or file.read(2**16)):
            read += 0 if unpack.unconsumed_tail else len(piece)
            parts.append(unpack.decompress(piece, 2**20))
            made += len(parts[-1])
            if made > max(_FREE_INFLATION, _MAX_RATIO * read):
                raise _BrokenError(
                    "D09", "the deflated data set unpacks without end.", f"{made} bytes from {read} and more"
                )
    except zlib.error as error:
        raise _BrokenError("D09", "the deflated data set cannot be unpacked.", str(error)) from error
    if not unpack.eof:
        raise _BrokenError("D03", "the deflated data set ends too early.", f"{made} bytes so far")
    return b"".join(parts)
