"""Full disks, read-only folders and a process killed at any moment: the old file whole, or the new one whole."""

import errno
import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medxai.errors import WriteError
from medxai.io.write import refuse_unwritable, write_file
from tests.forbidden import numbers
from tests.unprivileged import folder, locked

REFUSED = """
import resource, signal, sys
from pathlib import Path
from medxai.errors import WriteError
from medxai.io.write import write_file
from medxai.model.syscalls import forbid

path, most, error, numbers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), [int(n) for n in sys.argv[4:]]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
if numbers:
    assert forbid(numbers, error)
try:
    write_file(path, bytes(3_000_000))
except WriteError as refusal:
    print(refusal)
"""
FOREVER = """
import sys
from pathlib import Path
from medxai.io.write import write_file

path, size = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
for n in range(10**9):
    write_file(path, bytes([n % 256]) * size)
"""


@pytest.mark.parametrize(
    ("most", "error", "calls", "said"),
    [
        (1_000_000, 0, [], "File too large"),
        (0, errno.ENOSPC, ["fsync"], "No space left on device"),
        (0, errno.EIO, ["fsync"], "Input/output error"),
        (0, errno.EROFS, ["rename", "renameat", "renameat2"], "Read-only file system"),
    ],
    ids=["no room after a third", "a full disk found late", "a broken disk", "a disk that became read-only"],
)
def test_a_disk_that_fails_leaves_the_old_file(
    tmp_path: Path, most: int, error: int, calls: list[str], said: str
) -> None:
    """The kernel refuses at the first byte too many, at the flush or at the last step; the old file stays, alone."""
    path = tmp_path / "a.bin"
    write_file(path, b"old")
    words = [sys.executable, "-c", REFUSED, str(path), str(most), str(error), *map(str, numbers(*calls))]
    done = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603
    assert said in done.stdout, done.stdout
    assert "a.bin: the file cannot be written" in done.stdout
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_that_one_may_not_write_to() -> None:
    with folder() as place:
        path = place / "a.bin"
        path.write_bytes(b"old")
        with locked(place, 0o555), pytest.raises(WriteError, match=r"a\.bin.*Permission denied"):
            write_file(path, b"new")
        assert path.read_bytes() == b"old"
        assert [p.name for p in place.iterdir()] == ["a.bin"]


def test_a_folder_that_cannot_be_made_is_known_before() -> None:
    with folder() as place:
        refuse_unwritable(place / "new" / "deeper")
        with locked(place, 0o555), pytest.raises(WriteError, match="may not write"):
            refuse_unwritable(place / "new")
        (place / "file").write_bytes(b"mine")
        with pytest.raises(WriteError, match="no folder"):
            refuse_unwritable(place / "file" / "new")
        assert [p.name for p in place.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_killed_process_leaves_one_whole_file(tmp_path: Path) -> None:
    path, size, draw = tmp_path / "a.bin", 2_000_000, random.Random(0)
    write_file(path, b"\0" * size)
    seen = set()
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", FOREVER, str(path), str(size)], stdout=subprocess.PIPE) as process:  # noqa: S603
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(draw.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
            process.wait()
        content = path.read_bytes()
        assert len(content) == size
        assert content == content[:1] * size
        seen.add(hashlib.sha256(content).hexdigest())
    assert len(seen) > 1
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
