"""Full disks, read-only folders and a process killed at any moment: the old file whole, or the new one whole."""

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medxai.io.write import write_file

FULL_THEN_READ_ONLY = """
import subprocess, sys
from pathlib import Path
from medxai.errors import WriteError
from medxai.io.write import write_file

folder = Path(sys.argv[1])
path = folder / "a.bin"
write_file(path, b"old")

def refused(words):
    try:
        write_file(path, bytes(3_000_000))
    except WriteError as error:
        assert words in str(error), error
    else:
        raise SystemExit("written")
    assert path.read_bytes() == b"old"
    assert [p.name for p in folder.iterdir()] == ["a.bin"]

refused("No space left on device")
subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
refused("Read-only file system")
print("both")
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


def test_a_full_disk_and_a_read_only_one_leave_the_old_file(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=1m none '{tmp_path}' && exec '{sys.executable}' -c \"$0\" '{tmp_path}'"
    namespace = ["unshare", "--mount", "--map-root-user"]
    if _run([*namespace, "mount", "-t", "tmpfs", "none", str(tmp_path)]).returncode:
        pytest.skip("this machine lets nobody mount a small disk of their own")
    done = _run([*namespace, "sh", "-c", mount, FULL_THEN_READ_ONLY])
    assert done.stdout == "both\n", done.stderr


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603


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
