"""What a compressed frame says of its own size, read from its markers before any codec sees it.

JPEG and JPEG-LS: the frame header SOFn (ISO 10918-1 B.2.2, ISO 14495-1). JPEG 2000: SIZ (ISO 15444-1 A.5.1).
RLE: the segment table (PS3.5 annex G).
"""

import struct
from dataclasses import dataclass

_NO_FRAME_HEADER = {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xDA)}


@dataclass(frozen=True)
class Size:
    """Rows, columns and components of a compressed frame, and its bits per component."""

    rows: int
    columns: int
    components: int
    bits: int


def size_of(frame: bytes) -> Size | None:
    """The size that a JPEG, JPEG-LS or JPEG 2000 frame states; None where it states none."""
    try:
        return _jpeg_2000(frame) if b"\xff\x4f\xff\x51" in frame[:65536] else _jpeg(frame)
    except (struct.error, IndexError):
        return None


def is_whole(frame: bytes) -> bool:
    """Whether a JPEG, JPEG-LS or JPEG 2000 frame ends with its end mark, and its tiles fill it up to there.

    Decoders fill in what is missing and say nothing.
    """
    end = frame.rstrip(b"\0\xff")
    if not end.endswith(b"\xff\xd9"):
        return False
    start = frame.find(b"\xff\x4f\xff\x51", 0, 65536)
    return True if start < 0 else _tiles_end(frame, start) == len(end) - 2


def rle_segments(frame: bytes) -> list[int] | None:
    """Where the segments of an RLE frame begin; None where the table is broken."""
    if len(frame) < 64:
        return None
    count, *starts = struct.unpack("<16I", frame[:64])
    used = starts[:count]
    rising = all(a < b for a, b in zip(used, [*used[1:], len(frame)], strict=True)) if used else False
    return used if 0 < count <= 15 and used[0] == 64 and rising else None


def _jpeg(frame: bytes) -> Size | None:
    if frame[:2] != b"\xff\xd8":
        return None
    position = 2
    while True:
        while frame[position] == 0xFF and frame[position + 1] == 0xFF:
            position += 1
        if frame[position] != 0xFF:
            return None
        marker = frame[position + 1]
        if marker in _ALONE:
            position += 2
            continue
        length = struct.unpack(">H", frame[position + 2 : position + 4])[0]
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADER) or marker == 0xF7:
            bits, rows, columns, components = struct.unpack(">BHHB", frame[position + 4 : position + 10])
            return Size(rows, columns, components, bits)
        position += 2 + length


def _jpeg_2000(frame: bytes) -> Size:
    start = frame.index(b"\xff\x4f\xff\x51") + 4
    right, bottom, left, top = struct.unpack(">4I", frame[start + 4 : start + 20])
    components, depth = struct.unpack(">HB", frame[start + 36 : start + 39])
    return Size(bottom - top, right - left, components, (depth & 0x7F) + 1)


def _tiles_end(frame: bytes, start: int) -> int:
    """Where the last tile part of a JPEG 2000 codestream ends (SOT, ISO 15444-1 A.4.2)."""
    position = start + 2
    try:
        while (marker := frame[position : position + 2]) != b"\xff\xd9":
            length = struct.unpack(">H", frame[position + 2 : position + 4])[0]
            if marker == b"\xff\x90":
                part = struct.unpack(">I", frame[position + 6 : position + 10])[0]
                if part == 0:
                    return len(frame.rstrip(b"\0\xff")) - 2
                position += part
            else:
                position += 2 + length
    except struct.error:
        return -1
    return position
