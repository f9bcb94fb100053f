"""Peak resident memory of one method above its loaded model (Linux, MB): `python -m benchmarks.memory medxai 128`."""

import re
import sys
import warnings
from pathlib import Path

import torch

from benchmarks.methods import named, network, quietly

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text("ascii"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{STATUS} has no {field}: this benchmark needs Linux")
    return int(found[1]) / 1024


def main() -> None:
    warnings.simplefilter("ignore")
    name, side = sys.argv[1], int(sys.argv[2])
    images = torch.rand(1, 1, side, side, side)
    call = quietly(named(name), network(3), images, 1)
    CLEAR.write_text("5", "ascii")
    before = resident("VmRSS")
    call()
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main()
