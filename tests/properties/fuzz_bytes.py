"""Damaged bytes into the reader, guided by coverage where atheris is installed: only MedxaiError may leave it.

python -m tests.properties.fuzz_bytes dicom 600
"""

import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from medxai.errors import MedxaiError

GUIDED = __name__ == "__main__" and find_spec("atheris") is not None

if GUIDED:
    import atheris

    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["medxai.io", "pydicom", "nibabel"]):
        from medxai.io.read import read_volume
else:
    from medxai.io.read import read_volume

SUFFIX = {"dicom": ".dcm", "nifti": ".nii"}


def target(kind: str, folder: Path) -> Callable[[bytes], None]:
    """One call of the reader on these bytes."""
    path = folder / f"input{SUFFIX[kind]}"

    def once(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read_volume(path)
        except MedxaiError:
            return

    return once


def seeds(kind: str, folder: Path) -> list[bytes]:
    """Small whole files to start from."""
    if kind == "nifti":
        from tests.io.nifti_phantom import phantom

        return [phantom()]
    from tests.io.dicom import make

    built = [make.single(), make.enhanced(), make.dose(), make.film(), make.edited(make.single(), lambda b: b[132:])]
    whole = [build(folder).read_bytes() for build in built]
    names = ("MR_small_bigendian.dcm", "SC_rgb_small_odd.dcm", "liver_expb_1frame.dcm", "no_meta_group_length.dcm")
    return [*whole, *(content for name in names if len(content := (make.BUNDLED / name).read_bytes()) < 40_000)]


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut out or put in."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(changed) + 1)
        what = chance.random()
        if what < 0.6 and at < len(changed):
            changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif what < 0.75:
            del changed[at : at + chance.choice((1, 2, 4, 8, 100))]
        elif what < 0.9:
            changed[at:at] = chance.randbytes(chance.choice((1, 2, 4, 8)))
        else:
            del changed[at:]
    return bytes(changed)


def main() -> None:
    """Fuzz the reader of argv[1] for argv[2] seconds; any other exception ends the process with its traceback."""
    kind, seconds = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        once, start = target(kind, folder), seeds(kind, folder)
        if not GUIDED:
            _plain(once, start, seconds)
            return
        corpus = folder / "corpus"
        corpus.mkdir()
        for n, content in enumerate(start):
            (corpus / str(n)).write_bytes(content)
        options = [sys.argv[0], str(corpus), f"-max_total_time={seconds}", "-max_len=20000", "-timeout=60"]
        atheris.Setup([*options, "-rss_limit_mb=3000", "-verbosity=0", "-print_final_stats=1"], once)
        atheris.Fuzz()


def _plain(once: Callable[[bytes], None], start: list[bytes], seconds: int) -> None:
    chance, end, count = random.Random(0), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        once(mutate(chance.choice(start), chance))
        count += 1
    sys.stderr.write(f"stat::number_of_executed_units: {count}\n")


if __name__ == "__main__":
    main()
