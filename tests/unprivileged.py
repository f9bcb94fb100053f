"""What a user without privileges meets, also where the tests run as root."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder that any user may enter; those of pytest are its user's alone."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@contextmanager
def locked(path: Path, mode: int) -> Iterator[None]:
    """`path` has the permissions `mode`, and this process no privilege to pass over them."""
    before, user = path.stat().st_mode, os.geteuid()
    path.chmod(mode)
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(before)
