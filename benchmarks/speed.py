"""What Grad-CAM costs beside one plain forward pass, in time and in memory: `python -m benchmarks.speed`.

Times are medians over interleaved rounds in one process, as ratios to the no-grad forward of the same round; MONAI and
grad-cam, which run the network again for every class, are timed once. Memory is the peak resident size above the loaded
model, each method in its own process.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.methods import METHODS, network, quietly

SHAPES = {"2D 4x1x224x224": (4, 1, 224, 224), "3D 1x1x96x96x96": (1, 1, 96, 96, 96)}
SLOW_PEERS = ("MONAI", "grad-cam")  # run the network forwards and backwards again for every class


def ratios(shape: tuple[int, ...], classes: int, rounds: int) -> dict[str, float]:
    model, images = network(len(shape) - 2), torch.rand(shape)
    names = [name for name in METHODS if name not in SLOW_PEERS]
    calls = {name: quietly(METHODS[name], model, images, classes) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(_seconds(call))
    base = times["no-grad forward"]
    found = {name: statistics.median(t / b for t, b in zip(ts, base, strict=True)) for name, ts in times.items()}
    slow = {name: quietly(METHODS[name], network(len(shape) - 2), images, classes) for name in SLOW_PEERS}
    return found | {name: _seconds(call) / statistics.median(base) for name, call in slow.items()}


def peak_mb(name: str, side: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", name, str(side)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own module
    return float(done.stdout.split()[-1])


def _seconds(call: object) -> float:
    started = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - started


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--side", type=int, default=128)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    columns = [(f"{label}, {n} class{'es' * (n > 1)}", shape, n) for label, shape in SHAPES.items() for n in (1, 14)]
    found: dict[str, dict[str, float]] = {label: ratios(shape, n, chosen.rounds) for label, shape, n in columns}
    memory = {name: peak_mb(name, chosen.side) for name in METHODS}
    table = Table("method", *found, f"peak MB at 1x1x{chosen.side}^3", "peak / forward", title="Grad-CAM / forward")
    for name in METHODS:
        relative = memory[name] / memory["no-grad forward"]
        table.add_row(name, *[f"{f[name]:.2f}x" for f in found.values()], f"{memory[name]:.0f}", f"{relative:.2f}x")
    Console(width=150).print(table)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {chosen.rounds} rounds")
    if chosen.json:
        chosen.json.write_text(json.dumps({"time ratio": found, "peak MB": memory}, indent=2), "utf-8")


if __name__ == "__main__":
    main()
