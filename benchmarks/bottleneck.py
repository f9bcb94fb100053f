"""What an information bottleneck costs, beside its published code: `python -m benchmarks.bottleneck --peer CHECKOUT`.

CHECKOUT holds github.com/BioroboticsLab/IBA; without it only our own rows are made. With the published settings (beta
10, Adam at rate 1 with epsilon 1e-8, 10 steps of 10 noises, sigma 1, softplus(-y)) and the same noise both must find
the same capacity of every feature of the third dense block. Then one explanation is timed at the ends of three dense
blocks of MONAI's DenseNet121, in 2D beside the peer and in 3D beside the same search through the whole network: the
search alone, from the image on, which is what the published code does, and with our diagnostics, for which three times
ten more noises pass without gradient.
Seconds are those of the clock, on a machine that does nothing else; memory is the peak resident size above the loaded
model, each in its own process.
"""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import log
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.memory import CLEAR, resident
from benchmarks.methods import network
from medxai import ClassScore
from medxai.attribution.bottleneck.gate import bits
from medxai.attribution.bottleneck.iba import IBA, InverseIBA
from medxai.attribution.bottleneck.input_iba import InputIBA
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.objective import Objective, Stakes
from medxai.attribution.bottleneck.search import Bottleneck, Settings
from medxai.attribution.bottleneck.statistics import FeatureStatistics
from medxai.attribution.passes import one_pass
from medxai.model.guard import seeded

BLOCKS = {f"features.denseblock{i}": bar for i, bar in ((1, 2.5), (2, 5.0), (3, 12.0))}
TARGET, SEED, BETA = 7, 0, 10.0  # a score that noise lowers at every layer here: others are not searched
PUBLISHED: dict[str, Any] = {"beta": BETA, "rate": 1.0, "steps": 10, "copies": 10, "aim": "logistic"}
EQUAL = 1e-6
TOGETHER = 2**23  # voxels: all ten noises in the network at a time, as the published code does
FILM = Settings(PUBLISHED["steps"], PUBLISHED["rate"], PUBLISHED["copies"], (1.0, 1.0), at_once=PUBLISHED["copies"])
VOLUME = Settings(2, 1.0, 2, (1.0, 1.0, 1.0), at_once=1)


def library(checkout: Path) -> ModuleType:
    """The published code, imported without torchvision, which it needs for pictures alone."""
    pictures = ModuleType("torchvision.transforms")
    pictures.Normalize = pictures.Compose = None  # type: ignore[attr-defined]
    sys.modules.setdefault("torchvision", ModuleType("torchvision"))
    sys.modules.setdefault("torchvision.transforms", pictures)
    sys.path.insert(0, str(checkout))
    return importlib.import_module("IBA.pytorch")


@contextmanager
def published(code: ModuleType, model: nn.Module, layer: str, side: int, images: int) -> Iterator[Any]:
    """Their bottleneck in the model, which has seen noise images; it is out again afterwards."""
    own = code.IBA(model.get_submodule(layer), progbar=False)
    torch.manual_seed(SEED)
    own.estimate(model, ((torch.rand(4, 1, side, side),) for _ in range(images // 4)), device="cpu")
    try:
        yield own
    finally:
        own.detach()


def theirs(own: Any, model: nn.Module, image: Tensor) -> Tensor:
    """The capacity of every feature in bits."""
    torch.manual_seed(SEED)
    return torch.from_numpy(own.analyze(image, partial(_loss, model), mode="capacity"))


def _loss(model: nn.Module, images: Tensor) -> Tensor:
    return nn.functional.softplus(-model(images)[:, TARGET]).mean()


def difference(code: ModuleType, side: int, images: int) -> tuple[float, float]:
    """The largest difference of two capacities at the third dense block, in bits, and the largest capacity.

    Theirs is that of the last forward pass, before the last step of Adam; so ours makes one step less.
    """
    model, image, layer = network(2), torch.rand(1, 1, side, side), "features.denseblock3"
    with published(code, model, layer, side, images) as own:
        expected = theirs(own, model, image)
        seen_by_them = own.estimator
    same = FeatureStatistics(
        seen_by_them.mean(), seen_by_them.std(), seen_by_them.active_neurons().float(), images, "element", layer
    )
    with one_pass(model, image, [ClassScore(TARGET)], [layer], graph=False) as seen:
        neck = Bottleneck.at(seen, [NoisyLayer.of(seen.captured[0], same)], range(1), SEED)
        settings = Settings(PUBLISHED["steps"] - 1, 1.0, 10, (1.0, 1.0), epsilon=1e-8, at_once=10)
        gate = neck.search(Objective("logistic").keep, torch.tensor([BETA]), settings).gate
        found = neck.nats(gate)[0] / log(2)
    return float((found - expected).abs().max()), float(expected.max())


def timed(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each by the clock, in turn, after one call of each that is not counted."""
    times = {name: list[float]() for name in calls}
    for counted in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if counted:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in times.items()}


def searched(model: nn.Module, image: Tensor, layer: str, settings: Settings, *, replay: bool) -> object:
    """One search; without `replay` the whole network runs each time."""
    with one_pass(model, image, [ClassScore(TARGET)], [layer], graph=False) as seen:
        neck = Bottleneck.at(seen, [NoisyLayer.of(seen.captured[0], None)], range(1), SEED)
        held = neck.held if replay else replace(neck.held, full="for comparison")
        found = replace(neck, held=held).search(Objective("logistic").keep, torch.tensor([BETA]), settings)
    if not bool(found.losses.isfinite().all()):
        raise SystemExit(f"There was nothing to search at {layer}, so its time says nothing.")
    return found


def sought(model: nn.Module, image: Tensor, layer: str) -> None:
    """The published search alone, from the image to the bits of each cell; no noise is scored beside it."""
    with seeded(SEED, image.device), one_pass(model, image, [ClassScore(TARGET)], [layer], graph=False) as seen:
        neck = Bottleneck.at(seen, [NoisyLayer.of(seen.captured[0], None)], range(1), SEED)
        clean = seen.scores[0].detach()
        stakes = Stakes(clean, clean - 1, torch.zeros_like(clean))
        gate, losses, _ = neck.descent(Objective("logistic").keep, torch.tensor([BETA]), FILM, stakes)
        if not bool(losses.isfinite().all()) or not bool(bits(neck.nats(gate)).sum() > 0):
            raise SystemExit(f"There was nothing to search at {layer}, so its time says nothing.")


def flat(code: ModuleType | None, side: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of one explanation of a film at each block; where beta or the voxels are searched, at the deepest."""
    model, image, found = network(2), torch.rand(1, 1, side, side), {}
    for layer in BLOCKS:
        method = IBA(layer=layer, voxels=TOGETHER, **PUBLISHED)
        calls: dict[str, Callable[[], object]] = {
            "search alone": partial(sought, model, image, layer),
            "with diagnostics": partial(explained, method, model, image),
        }
        if code:
            with published(code, model, layer, side, 8) as own:
                calls["BioroboticsLab/IBA"] = partial(theirs, own, model, image)
                found[layer] = timed(calls, rounds)
        else:
            found[layer] = timed(calls, rounds)
    searches = {
        "IBA, beta found": IBA(layer=layer),
        "InverseIBA, beta found": InverseIBA(layer=layer),
        "InputIBA, as many steps": InputIBA(layer=layer, latent=IBA(**PUBLISHED), **PUBLISHED),
    }
    found[layer] |= timed({name: partial(explained, one, model, image) for name, one in searches.items()}, 1)
    return found


def explained(method: IBA, model: nn.Module, image: Tensor) -> object:
    with seeded(SEED, image.device):
        found = method(model, image, ClassScore(TARGET))
    if not found.status[0].ok:
        raise SystemExit(f"The map is degenerate, {found.status[0].reason}, so its time says nothing.")
    return found


def deep(side: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of two steps of two noises in a volume at each block, with replay and without, and peak memory."""
    model, image, found = network(3), torch.rand(1, 1, side, side, side), {}
    for layer in BLOCKS:
        calls: dict[str, Callable[[], object]] = {
            name: partial(searched, model, image, layer, VOLUME, replay=replay)
            for name, replay in (("replay", True), ("whole network", False))
        }
        found[layer] = timed(calls, rounds)
        found[layer] |= {f"peak MB, {how}": peak_mb(layer, side, how) for how in ("replay", "whole")}
    return found


def peak_mb(layer: str, side: int, how: str) -> float:
    command = [sys.executable, "-m", "benchmarks.bottleneck", "--peak", layer, str(side), how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own module
    return float(done.stdout.split()[-1])


def peak(layer: str, side: int, how: str) -> float:
    """Megabytes above the loaded model."""
    model, image = network(3), torch.rand(1, 1, side, side, side)
    CLEAR.write_text("5", "ascii")
    before = resident("VmRSS")
    searched(model, image, layer, VOLUME, replay=how == "replay")
    return resident("VmHWM") - before


def report(films: dict[str, dict[str, float]], volumes: dict[str, dict[str, float]]) -> Iterator[Table]:
    names = list(dict.fromkeys(name for row in films.values() for name in row))
    table = Table("layer", *names, "alone, times faster", "with diagnostics", "bar", title="a film, seconds")
    for layer, row in films.items():
        cells = (f"{row[name]:.2f}" if name in row else "" for name in names)
        theirs = row.get("BioroboticsLab/IBA")
        gains = (f"{theirs / row[ours]:.1f}x" if theirs else "" for ours in ("search alone", "with diagnostics"))
        table.add_row(layer, *cells, *gains, f"{BLOCKS[layer]:g}x")
    yield table
    names = list(next(iter(volumes.values())))
    table = Table("layer", *names, "times faster", title="a volume, two steps of two noises, seconds")
    for layer, row in volumes.items():
        table.add_row(layer, *(f"{row[name]:.2f}" for name in names), f"{row['whole network'] / row['replay']:.1f}x")
    yield table


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peer", type=Path, help="a checkout of the published code")
    options.add_argument("--side", type=int, default=224)
    options.add_argument("--depth", type=int, default=96)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path)
    options.add_argument("--peak", nargs=3, metavar=("LAYER", "SIDE", "HOW"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    if chosen.peak:
        print(peak(chosen.peak[0], int(chosen.peak[1]), chosen.peak[2]))
        return
    console, code = Console(width=150), library(chosen.peer) if chosen.peer else None
    record: dict[str, object] = {}
    if code:
        apart, largest = difference(code, chosen.side, 32)
        console.print(f"capacity at features.denseblock3: {apart:.1e} bits apart, of {largest:.3g} at most")
        record["capacity"] = {"apart": apart, "largest": largest}
        if apart > EQUAL:
            raise SystemExit(f"The capacities differ by more than {EQUAL:g} bits: the two do not compute the same.")
    films, volumes = flat(code, chosen.side, chosen.rounds), deep(chosen.depth, chosen.rounds)
    console.print(*report(films, volumes))
    record |= {"films": films, "volumes": volumes}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {chosen.rounds} rounds")
    if chosen.json:
        chosen.json.write_text(json.dumps(record, indent=2), "utf-8")


if __name__ == "__main__":
    main()
