"""Files that promise or unpack to far more than they are: refused by their header, in under 200 MB of memory."""

import gzip
import io
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.io.nifti_phantom import changed, phantom
from tests.io.test_picture_rows import png

MEASURE = """
import json, resource, sys
from medxai.io.read import read_volume
import nibabel.nifti1, PIL.Image, PIL.PngImagePlugin
from medxai.errors import MedxaiError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
codes = []
for path in sys.argv[1:]:
    try:
        read_volume(path)
        codes.append("read")
    except MedxaiError as error:
        codes.append(error.code)
print(json.dumps([codes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024]))
"""
GIB = 2**30


def zeros(head: bytes, size: int) -> bytes:
    """gzip of `head` and `size` zero bytes, in small memory."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as file:
        file.write(head)
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
    return packed.getvalue()


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bombs")
    plain = phantom()
    inner = zlib.compress(bytes(4 * 10**8), 9)
    nrrd = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2000 2000 2000\nencoding: gzip\n\n"
    contents = {
        "N23_giant.nii": changed(plain, dim={1: 32767, 2: 32767, 3: 32767}),
        "N24_header.nii.gz": zeros(changed(plain, dim={1: 1500, 2: 1500, 3: 1500}), 2**20),
        "N17_short.nii": changed(plain, dim={1: 1000, 2: 1000, 3: 700}),
        "N20_stream.nii.gz": zeros(plain, GIB),
        "P06_wide.png": png(65000, 65000, 1, 0, bytes(10)),
        "N24_picture.png": zeros(png(64, 64, 8, 0, bytes(65 * 64)), GIB // 2),
        "N23_giant.nrrd": nrrd + inner[:1000],
        "N20_long.nrrd": nrrd.replace(b"2000 2000 2000", b"20 20 20") + inner,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_bombs_are_refused_in_little_memory(bombs: dict[str, Path]) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", MEASURE, *map(str, bombs.values())], capture_output=True, text=True, check=True
    )
    codes, grown_mib = json.loads(done.stdout)
    assert dict(zip(bombs, codes, strict=True)) == {name: name[:3] for name in bombs}
    assert grown_mib < 200
    assert all(path.stat().st_size < 2**23 for path in bombs.values())
