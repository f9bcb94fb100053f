"""Bombs are refused before they take their memory."""

import json
import subprocess
import sys
from pathlib import Path

from tests.io.dicom import make
from tests.io.dicom.rows import ROWS

BOMBS = ("65535 x", "2^31", "deflated", "giant codestream", "4 GB claimed", "sequences 100 deep")
MOST_MB = 200
READ_ALL = """
import json, resource, sys
from medxai.errors import MedxaiError
from medxai.io.read import read_volume

def peak():
    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

read_volume(sys.argv[1])
before = peak()
for path in sys.argv[2:]:
    try:
        read_volume(path)
    except MedxaiError as error:
        print(json.dumps([error.code, (peak() - before) >> 10]))
"""


def test_every_bomb_is_refused_within_200_mb(tmp_path: Path) -> None:
    bombs = [row for row in ROWS if any(word in row.name for word in BOMBS)]
    paths = []
    for n, row in enumerate(bombs):
        (tmp_path / str(n)).mkdir()
        paths.append(row.build(tmp_path / str(n)))
    (tmp_path / "plain").mkdir()
    command = [sys.executable, "-c", READ_ALL, str(make.single()(tmp_path / "plain")), *map(str, paths)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own interpreter
    told = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [code for code, _ in told] == [row.code for row in bombs]
    assert len(bombs) >= 7
    assert max(megabytes for _, megabytes in told) < MOST_MB
