"""Any bytes at all: the readers answer with a volume or with our own error."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.properties.fuzz_bytes import SUFFIX, mutate, seeds, target

SECONDS = os.environ.get("MEDXAI_FUZZ_SECONDS", "600")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SUFFIX)
def test_a_few_hundred_damaged_files(tmp_path: Path, kind: str) -> None:
    start, once, chance = seeds(kind, tmp_path), target(kind, tmp_path), random.Random(7)
    for _ in range(300):
        once(mutate(chance.choice(start), chance))


@pytest.mark.soak
@pytest.mark.parametrize("kind", SUFFIX)
def test_ten_minutes_guided_by_coverage(kind: str) -> None:
    command = [sys.executable, "-m", "tests.properties.fuzz_bytes", kind, SECONDS]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    assert answer.returncode == 0, answer.stderr[-4000:]
    executed = [line for line in answer.stderr.splitlines() if "number_of_executed_units" in line]
    print(kind, *executed)  # noqa: T201 - `make soak` shows it
    assert executed
