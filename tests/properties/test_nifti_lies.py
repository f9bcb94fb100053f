"""A file with one wrong header field is refused, flagged or read truly; nothing but our errors leaves the reader."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medxai.errors import MedxaiError
from medxai.io.read import read_volume
from tests.io.nifti_phantom import phantom
from tests.properties.nifti_lies import mutated, one_field, outcome

SOAK = int(os.environ.get("MEDXAI_FUZZ_CASES", "20000"))
FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
PLAIN = phantom()


def check(folder: Path, seed: int, change: tuple[str, int | None, object], packed: bool) -> str:
    content, affine, plain = mutated(seed, change, packed)
    became = outcome(folder / ("a.nii.gz" if packed else "a.nii"), content, affine, plain)
    assert became in {"refused", "told", "right"}, change
    return became


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=FIXTURE)
@given(st.integers(0, 40), one_field(), st.booleans())
def test_one_wrong_field_tells_no_lie(
    tmp_path: Path, seed: int, change: tuple[str, int | None, object], packed: bool
) -> None:
    check(tmp_path, seed, change, packed)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=FIXTURE)
@given(
    st.lists(st.tuples(st.integers(0, len(PLAIN) - 1), st.integers(0, 255)), min_size=1, max_size=12),
    st.integers(0, len(PLAIN)),
    st.sampled_from(["a.nii", "a.nii.gz", "a.png", "a.mha", "a.nrrd"]),
)
def test_only_our_errors_escape_from_damaged_bytes(
    tmp_path: Path, changes: list[tuple[int, int]], length: int, name: str
) -> None:
    content = bytearray(PLAIN)
    for at, value in changes:
        content[at] = value
    _only_ours(tmp_path / name, bytes(content[: length or None]))


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=FIXTURE)
@given(
    st.sampled_from(
        [
            b"",
            b"\x1f\x8b\x08",
            b"NRRD0004\n",
            b"ObjectType = Image\n",
            b"\x89PNG\r\n\x1a\n",
            b"II*\0",
            b"BM",
            b"\xff\xd8\xff",
        ]
    ),
    st.binary(max_size=400),
    st.sampled_from(["a.nii", "a.nii.gz", "a.png", "a.tif", "a.bmp", "a.jpg", "a.mha", "a.nrrd", "a"]),
)
def test_only_our_errors_escape_from_random_bytes(tmp_path: Path, mark: bytes, content: bytes, name: str) -> None:
    _only_ours(tmp_path / name, mark + content)


def _only_ours(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    said = path.name
    try:
        read_volume(path)
    except MedxaiError as error:
        said = str(error)
    assert path.name in said


@pytest.mark.soak
def test_twenty_thousand_wrong_fields_tell_no_lie(tmp_path: Path) -> None:
    counted: Counter[str] = Counter()

    @settings(max_examples=SOAK, deadline=None, database=None, suppress_health_check=FIXTURE)
    @given(st.integers(0, 10**6), one_field(), st.booleans())
    def run(seed: int, change: tuple[str, int | None, object], packed: bool) -> None:
        counted[check(tmp_path, seed, change, packed)] += 1

    run()
    print(counted)  # noqa: T201 - `make soak` shows it
    assert sum(counted.values()) >= SOAK
    assert min(counted[fate] for fate in ("refused", "told", "right")) > SOAK // 100
