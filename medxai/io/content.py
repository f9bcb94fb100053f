"""The bytes of a file, whole and checked: nothing that is missing, damaged or truncated goes further."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medxai.errors import GeometryError, InputError
from medxai.io.source import GZIP, opened, unreadable

_PACKED = 2**26


def read_bytes(path: Path, most: int = _PACKED) -> bytes:
    """All bytes of a file; a gzip file comes unpacked, after its checksum and length were verified.

    Raises `InputError` for what cannot be read, is empty or damaged, is larger than `most`, or unpacks to more than
    64 MiB.
    """
    with opened(path) as source:
        limit = min(most, _PACKED) if source.packed else most
        content = source.read(limit + 1) if source.packed or source.size <= limit else b""
    if len(content) > limit or (source.size > limit and not source.packed):
        raise InputError(
            f"{path}: the file is larger than an image may be.",
            expected=f"at most {limit} bytes",
            found="more once unpacked, where reading stopped" if source.packed else f"{source.size} bytes",
            remedy="Unpack it first." if source.packed else "If it is so large, permit it with max_gib= (--max-gib).",
            code="N24",
        )
    return content


def first_bytes(path: Path, size: int = 1024) -> bytes:
    """The first bytes of a file, unpacked where it is gzip, and empty where they cannot be. Raises `InputError`."""
    try:
        with path.open("rb") as file:
            start = file.read(size)
    except OSError as error:
        raise unreadable(path, error) from error
    if not start.startswith(GZIP):
        return start
    try:
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
