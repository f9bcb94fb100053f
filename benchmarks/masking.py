"""What masking methods cost beside plain forward passes and torchcam: `python -m benchmarks.masking`.

Score-CAM reads a 3x3 convolution to `--channels` channels on the last stage of MONAI's DenseNet121, so that K masked
passes take minutes and not hours; its bar is K batched forward passes of the same network, at the batch size that
Score-CAM chose. Ablation-CAM reads the last layer of DenseNet121 as it is, 1024 channels, beside as many full passes
with one channel silenced. All calls of one table run in turn in one process; seconds are those of the processor,
which other programs do not lengthen, and a ratio is that of medians. Memory is the peak resident size above the loaded
model, each call in a process of its own.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.memory import CLEAR, resident
from benchmarks.methods import LAYER, network

SHAPES = {"2D 1x1x224x224": (1, 1, 224, 224), "3D 1x1x64x64x64": (1, 1, 64, 64, 64)}
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
CLASSES = 14
SILENCED = "1024 forwards (64 x 16)"
Call = Callable[[], object]


class Narrowed(nn.Module):
    """DenseNet121 whose last stage ends in few channels, at layer "act"."""

    def __init__(self, dimensions: int, channels: int) -> None:
        super().__init__()
        self.features = network(dimensions).features
        self.narrow = CONV[dimensions](1024, channels, 3, padding=1)
        self.act, self.head = nn.ReLU(), nn.Linear(channels, CLASSES)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.narrow(self.features(x))).flatten(2).mean(2))


def score_cam(model: nn.Module, images: Tensor, classes: int) -> object:
    from medxai import ClassScore
    from medxai.attribution.masking_cams import ScoreCAM

    return ScoreCAM(layer="act").attribute(model, images, [ClassScore(c) for c in range(classes)])


def torchcam_score_cam(model: nn.Module, images: Tensor, classes: int) -> object:
    from torchcam.methods import ScoreCAM

    with ScoreCAM(model, target_layer="act", batch_size=batch(images)) as extractor:
        with torch.no_grad():
            model(images)
        return [extractor(c, normalized=False) for c in range(classes)]


def ablation_cam(model: nn.Module, images: Tensor, classes: int) -> object:
    from medxai import ClassScore
    from medxai.attribution.ablation import AblationCAM

    return AblationCAM(layer=LAYER).attribute(model, images, [ClassScore(c) for c in range(classes)])


def forwards(model: nn.Module, images: Tensor, count: int) -> object:
    size = batch(images)
    with torch.no_grad():
        return [
            model(images.expand(min(size, count - start), *images.shape[1:]).contiguous())
            for start in range(0, count, size)
        ]


def batch(images: Tensor) -> int:
    return max(1, 2**21 // images[0].numel())


def timed(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.process_time()
            call()
            times[name].append(time.process_time() - started)
    return {name: statistics.median(found) for name, found in times.items()}


def calls(shape: tuple[int, ...], channels: int) -> tuple[int, dict[str, Call]]:
    """How many channels vary, and every call; forward passes of the sweep are as many."""
    torch.manual_seed(0)
    dimensions, images = len(shape) - 2, torch.rand(shape)
    narrow, whole = Narrowed(dimensions, channels), network(dimensions)
    with torch.no_grad():
        activation = narrow.act(narrow.narrow(narrow.features(images))).flatten(2)
        live = int((activation.amax(2) > activation.amin(2)).sum())
    score_cam(narrow, torch.rand(1, 1, *[32] * dimensions), 1)  # imports are not timed
    torchcam_score_cam(narrow, torch.rand(1, 1, *[32] * dimensions), 1)
    return live, {
        "K forwards": lambda: forwards(narrow, images, live),
        "Score-CAM, 1 class": lambda: score_cam(narrow, images, 1),
        f"Score-CAM, {CLASSES} classes": lambda: score_cam(narrow, images, CLASSES),
        "torchcam Score-CAM, 1 class": lambda: torchcam_score_cam(narrow, images, 1),
        "Ablation-CAM, 14 classes": lambda: ablation_cam(whole, images, CLASSES),
        "16 forwards": lambda: forwards(whole, images, 16),
    }


def measured(shape: tuple[int, ...], channels: int, rounds: int) -> dict[str, float]:
    """Seconds of every call."""
    live, named = calls(shape, channels)
    found = timed(named, rounds)
    return {"K": live, **found, SILENCED: 64 * found["16 forwards"]}


def peak(label: str, channels: int, name: str) -> str:
    """MB above the loaded model, of a process that makes but this call."""
    command = [sys.executable, "-m", "benchmarks.masking", "--only", label, "--channels", str(channels), "--peak", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own module
    return f"{float(done.stdout.split()[-1]):.0f}"


def peak_here(label: str, channels: int, name: str) -> float:
    """The same of this process."""
    call = calls(SHAPES[label], channels)[1][name]
    ctypes.CDLL(None).malloc_trim(0)  # what the passes that counted the channels left would hide what the call takes
    CLEAR.write_text("5", "ascii")
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--channels", type=int, default=128)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", choices=list(SHAPES))
    options.add_argument("--json", type=Path)
    options.add_argument("--peak", help="print the memory that this call takes, and nothing else; needs --only")
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    if chosen.peak:
        print(peak_here(chosen.only, chosen.channels, chosen.peak))
        return
    shapes = {label: shape for label, shape in SHAPES.items() if chosen.only in (None, label)}
    found = {label: measured(shape, chosen.channels, chosen.rounds) for label, shape in shapes.items()}
    for label, seconds in found.items():
        plain, whole = seconds["K forwards"], seconds[SILENCED]
        table = Table(
            "call",
            "seconds",
            "ratio",
            "peak MB",
            title=f"{label}, K = {seconds['K']:.0f} of {chosen.channels} channels",
        )
        for name, value in seconds.items():
            if name == "K":
                continue
            base = whole if name.startswith(("Ablation", "16", SILENCED)) else plain
            memory = "" if name == SILENCED else peak(label, chosen.channels, name)
            table.add_row(name, f"{value:.2f}", f"{value / base:.3f}x", memory)
        peer = CLASSES * seconds["torchcam Score-CAM, 1 class"]
        table.add_row(f"torchcam Score-CAM, {CLASSES} classes ({CLASSES} x one)", f"{peer:.2f}", f"{peer / plain:.3f}x")
        Console(width=120).print(table)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {chosen.rounds} rounds")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2), "utf-8")


if __name__ == "__main__":
    main()
