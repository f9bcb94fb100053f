"""What every one-pass method of the catalogue costs: `python -m benchmarks.cams`.

Time is a ratio to one plain no-grad forward of the same images, medians over interleaved rounds in one process, for one
class and for fourteen, on the last layer of MONAI's DenseNet121; then Grad-CAM on a layer at half the depth beside the
peers. Seconds are those of one processor thread, which other programs do not lengthen. Memory is the peak resident
size above the loaded model, each method in its own process.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.methods import METHODS, Run, at_layer, every, network, quietly
from benchmarks.speed import SHAPES, peak_mb

HALF = "features.denseblock2"
ONE_PASS = ("1F", "1F + 1B", "1F + 2B")


def ratios(runs: Mapping[str, Run], shape: tuple[int, ...], classes: int, rounds: int) -> dict[str, float]:
    """Median time of each run over that of the plain forward in the same round."""
    model, images = network(len(shape) - 2), torch.rand(shape)
    base = partial(METHODS["no-grad forward"], model, images, classes)
    calls = {name: quietly(run, model, images, classes) for name, run in runs.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        plain = _seconds(base)
        for name, call in calls.items():
            found[name].append(_seconds(call) / plain)
    return {name: statistics.median(values) for name, values in found.items()}


def peak(name: str, side: int) -> float:
    """Of three processes the one in the middle: two threads at times leave a page or a buffer behind."""
    return statistics.median(peak_mb(name, side) for _ in range(3))


def _seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--side", type=int, default=128)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    console, record = Console(width=170), dict[str, object]()
    ours = {name: run for name, (cost, run) in every().items() if cost in ONE_PASS}
    columns = [(f"{label}, {n} class{'es' * (n > 1)}", shape, n) for label, shape in SHAPES.items() for n in (1, 14)]
    times = {label: ratios(ours, shape, n, chosen.rounds) for label, shape, n in columns}
    peers = ("torchcam", "captum", "grad-cam", "MONAI")
    memory = {name: peak(name, chosen.side) for name in (*ours, *peers, "no-grad forward")}
    leanest = min(memory[peer] for peer in peers)
    table = Table("method", *times, f"peak MB at {chosen.side}^3", "of the leanest peer", title="last layer / forward")
    for name in ours:
        cells = [f"{column[name]:.2f}x" for column in times.values()]
        table.add_row(name, *cells, f"{memory[name]:.0f}", f"{memory[name] / leanest:.2f}x")
    console.print(table)
    record |= {"last layer": times, "peak MB": memory}
    half = {name: at_layer(run, HALF) for name, run in (("medxai", every()["GradCAM"][1]), ("MONAI", METHODS["MONAI"]))}
    for label, shape in SHAPES.items():
        found = ratios(half, shape, 1, 3)
        share = found["medxai"] / found["MONAI"]
        pair = f"medxai {found['medxai']:.2f}x, MONAI {found['MONAI']:.2f}x"
        console.print(f"Grad-CAM at {HALF}, {label}: {pair}, ratio {share:.2f}")
        record[f"half depth, {label}"] = found
    if chosen.json:
        chosen.json.write_text(json.dumps(record, indent=2), "utf-8")


if __name__ == "__main__":
    main()
