"""The bytes of a file, whole and checked: nothing that is missing, damaged or truncated goes further."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medxai.errors import GeometryError, InputError

GZIP = b"\x1f\x8b"


def read_bytes(path: Path) -> bytes:
    """All bytes of a file; a gzip file comes unpacked, after its checksum and length were verified."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: the file cannot be read.",
            expected="a readable file",
            found=error.strerror or type(error).__name__,
            remedy="Check the path and your permission to read it.",
        ) from error
    if not content:
        raise InputError(f"{path}: the file is empty.", remedy="Copy or download it again.")
    return _unpacked(path, content) if content.startswith(GZIP) else content


def first_bytes(path: Path, size: int = 1024) -> bytes:
    """The first bytes of a file, unpacked where it is gzip; empty where they cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start != GZIP:
            with path.open("rb") as file:
                return file.read(size)
        with gzip.open(path) as unpacked:
            return unpacked.read(size)
    except (OSError, EOFError, zlib.error):
        return b""


@contextmanager
def blaming(path: Path, code: str = "") -> Iterator[None]:
    """Within, a grid that its file describes wrongly is refused in the name of that file."""
    try:
        yield
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}", code=code) from error


def _unpacked(path: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{path}: the compressed file is truncated or damaged.",
            expected="a gzip stream whose checksum and length agree with its content",
            found=str(error),
            remedy="Copy or download it again.",
        ) from error
