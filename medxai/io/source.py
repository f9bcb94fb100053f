"""The bytes of a file in order, unpacked where it is gzip, never more at once than asked for, checksums verified."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from medxai.errors import InputError

GZIP = b"\x1f\x8b"
Packing = Literal["auto", "raw", "zlib"]

_STEP = 1 << 20
_EITHER = 47  # zlib's word for its own and gzip's marks


class Source:
    """The content of an open file of `size` bytes; `garbage` counts those behind the last gzip member."""

    def __init__(self, path: Path, file: IO[bytes], packing: Packing = "auto") -> None:
        self.path, self.size = path, os.fstat(file.fileno()).st_size
        start = file.read(len(GZIP))
        self.packed = packing == "zlib" or (packing != "raw" and start == GZIP)
        self.garbage = 0
        self._parts = self._unpacked(file, start) if self.packed else _plain(file, start)
        self._left = memoryview(b"")

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer where the content ends."""
        parts = []
        while size and (part := self._next(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def fill(self, target: memoryview) -> int:
        """Put the next bytes into `target`; how many came, which is less where the content ends."""
        done = 0
        while done < len(target) and (part := self._next(len(target) - done)):
            target[done : done + len(part)] = part
            done += len(part)
        return done

    def skip(self, size: int) -> int:
        """Pass over bytes; how many there were, less than `size` where the content ends."""
        done = 0
        while done < size and (part := self._next(size - done)):
            done += len(part)
        return done

    def finish(self, most: int) -> int:
        """How many bytes are left beyond what was read, all of them verified; reading stops at `most`."""
        left = 0
        while left < most and (part := self._next(_STEP)):
            left += len(part)
        return left + self.garbage

    def _next(self, most: int) -> memoryview:
        part = self._left or memoryview(next(self._parts, b""))
        self._left = part[most:]
        return part[:most]

    def _unpacked(self, file: IO[bytes], packed: bytes) -> Iterator[bytes]:
        more = True
        while more:
            member = zlib.decompressobj(_EITHER)
            while not member.eof:
                packed = packed or file.read(_STEP)
                part = self._inflated(member, packed)
                if not packed and not part and not member.eof:
                    raise self._damaged("it ends too early", "N18")
                packed = member.unconsumed_tail
                if part:
                    yield part
            packed = _past_zeros(member.unused_data, file)
            more = packed.startswith(GZIP)
        self.garbage = len(packed) + self.size - file.tell()

    def _inflated(self, member: "zlib._Decompress", packed: bytes) -> bytes:
        try:
            return member.decompress(packed, _STEP)
        except zlib.error as error:
            raise self._damaged(str(error), "N19") from error

    def _damaged(self, found: str, code: str) -> InputError:
        return InputError(
            f"{self.path}: the compressed file is truncated or damaged.",
            expected="a stream whose checksum and length agree with its content",
            found=found,
            remedy="Copy or download it again.",
            code=code,
        )


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The content of the file at `path`. Raises `InputError` where it cannot be read, or is empty."""
    try:
        with path.open("rb") as file:
            source = Source(path, file)
            if not source.size:
                raise InputError(f"{path}: the file is empty.", remedy="Copy or download it again.", code="N22")
            yield source
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file or folder that the system does not give."""
    return InputError(
        f"{path}: this cannot be read.",
        code="D64",
        expected="a file or folder that is there and that you may read",
        found=error.strerror or type(error).__name__,
        remedy="Check the path, your permission to read it, and that its disk is mounted.",
    )


def _plain(file: IO[bytes], start: bytes) -> Iterator[bytes]:
    while start:
        yield start
        start = file.read(_STEP)


def _past_zeros(packed: bytes, file: IO[bytes]) -> bytes:
    """What follows the zeros that pad a compressed file: at least two bytes, or nothing."""
    while not (packed := packed.lstrip(b"\0")) and (packed := file.read(_STEP)):
        pass
    return packed + file.read(1) if len(packed) == 1 else packed
