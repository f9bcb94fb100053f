"""What a picture's own marks and checksums say, which decoders do not ask: format, bit depth, whether it is whole."""

import struct
import zlib
from pathlib import Path
from typing import Any

from medxai.errors import InputError
from medxai.io.codes import notice

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_MARKS = {
    "PNG": (_PNG[:4],), "JPEG": (_JPEG,), "GIF": (b"GIF8",), "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
}  # fmt: skip
_SUFFIXES = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "GIF": (".gif",), "BMP": (".bmp",), "TIFF": (".tif", ".tiff")}
_DEPTHS = 258  # TIFF BitsPerSample
_PHOTOMETRIC = 262

FORMATS = (*_MARKS, "DIB")
MOST_PIXELS = 2**27


def is_picture(start: bytes) -> bool:
    """Whether these first bytes are the mark of a PNG, JPEG, GIF, BMP or TIFF file."""
    return any(start.startswith(marks) for marks in _MARKS.values())


def about_name(path: Path, content: bytes) -> tuple[str, ...]:
    """A notice where the name promises another picture format than the content is."""
    kind = next((name for name, marks in _MARKS.items() if content.startswith(marks)), "")
    suffix = path.suffix.lower()
    other = any(suffix in ends for name, ends in _SUFFIXES.items() if name != kind)
    return (notice("P09", f"{kind} content under the name of another picture format"),) if kind and other else ()


def refuse_damage(path: Path, content: bytes) -> None:
    """Raise `InputError` for a PNG whose checksums are wrong or that has no end, and for a JPEG without an end."""
    problem = ""
    if content.startswith(_PNG):
        problem = _png_damage(content)
    elif content.startswith(_JPEG) and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
        problem = "a JPEG that ends inside its pixels"
    if problem:
        raise InputError(
            f"{path}: the picture cannot be decoded: it is damaged or truncated.",
            expected="a whole file",
            found=problem,
            remedy="Copy it again.",
            code="P07",
        )


def _png_damage(content: bytes) -> str:
    at = len(_PNG)
    while at + 12 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        end = at + 8 + size
        if end + 4 > len(content):
            break
        if zlib.crc32(content[at + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            return f"a wrong checksum in the chunk {kind.decode('latin-1')}"
        if kind == b"IEND":
            return ""
        at = end + 4
    return "a PNG without its end"


def depth(page: Any, content: bytes) -> int:
    """Bits per sample as stored, 8 where the format has only that."""
    if page.format == "PNG":
        return content[24]
    if page.format == "TIFF":
        return int(page.tag_v2.get(_DEPTHS, (1,))[0])
    return 1 if page.mode == "1" else 8


def white_is_zero(page: Any) -> bool:
    """Whether this is a TIFF whose low values are bright."""
    return bool(page.format == "TIFF" and page.tag_v2.get(_PHOTOMETRIC) == 0)


def refusal(page: Any, bits: int) -> str:
    """What this picture has that one gray or colour image cannot keep, "" where there is nothing."""
    if page.width * page.height > MOST_PIXELS:
        return f"{page.width} x {page.height} pixels"
    if getattr(page, "n_frames", 1) > 1:
        return f"{page.n_frames} pages"
    if bits == 16 and page.mode not in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        return "16-bit colour, which would lose half its bits"
    return ""
