"""What faithfulness costs beside the peers: `python -m benchmarks.faithfulness`.

Deletion and insertion of single pixels at 100 levels on DenseNet121 of MONAI (torchcam 0.5, Quantus 0.6: deletion),
ROAD in the plane (grad-cam 1.5, Quantus) and ROAD's imputation of 64^3 voxels per level. Peers that are not installed
are named as such. Times are medians over interleaved rounds of one process.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from torch import Tensor, nn

from benchmarks.methods import network
from medxai.core.target import ClassScore
from medxai.metrics.curves import Perturbation, even_levels
from medxai.metrics.deletion import deletion, insertion
from medxai.metrics.imputation import Constant
from medxai.metrics.probe import Probe
from medxai.metrics.road import NoisyLinear, solve
from medxai.metrics.scene import Scene
from medxai.metrics.sufficiency import ROAD_LEVELS, road
from medxai.metrics.units import Voxels
from medxai.model.layout import channels_last
from medxai.model.scoring import Scorer
from tests.peers import grad_cam_library

CLASS = 3
Call = Callable[[], object]


def smooth(shape: tuple[int, ...], seed: int, width: float) -> Tensor:
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).numpy()
    values = ndimage.gaussian_filter(noise, width)
    return torch.from_numpy((values - values.min()) / (values.max() - values.min()))


def question(side: int) -> tuple[nn.Module, Tensor, Tensor]:
    return network(2), smooth((side, side), 0, 3)[None, None], smooth((side, side), 1, 8)


def our_areas(model: nn.Module, image: Tensor, values: Tensor) -> tuple[float, float]:
    removal = Perturbation(Voxels(), Constant(), even_levels(100))
    probe = Probe(values, image[0], Scorer(model, ClassScore(CLASS), "softmax"), perturbation=removal)
    return deletion(probe), insertion(probe)


def passes(model: nn.Module, image: Tensor, _values: Tensor) -> str:
    """As many forward passes, in our batches and layout, as both curves take: what no masking can save."""
    batch = channels_last(image.expand(8, -1, -1, -1))
    with torch.no_grad():
        for start in range(0, 202, len(batch)):
            model(batch[: 202 - start])
    return "202 forward passes and nothing else"


class Given:
    """A torchcam extractor that always answers one map."""

    def __init__(self, model: nn.Module, values: Tensor) -> None:
        self.model, self.values = model, values

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        return [self.values[None]]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> object:
        return torch.no_grad()


def torchcam_areas(model: nn.Module, image: Tensor, values: Tensor) -> tuple[float, float]:
    from torchcam.metrics import DeletionInsertionMetric

    metric = DeletionInsertionMetric(Given(model, values), partial(torch.softmax, dim=1), steps=100)
    metric.update(image, CLASS)
    found = metric.summary()
    return found["deletion_auc"], found["insertion_auc"]


def quantus_curve(model: nn.Module, image: Tensor, values: Tensor) -> float:
    import quantus

    step = -(-values.numel() // 100)
    while values.numel() % step:
        step += 1
    metric = quantus.PixelFlipping(features_in_step=step, perturb_baseline="black", disable_warnings=True)
    curve = metric(model, image.numpy(), np.array([CLASS]), values[None, None].numpy(), channel_first=True)
    return float(np.trapezoid(np.asarray(curve[0]), dx=1 / len(curve[0])))


def our_road(model: nn.Module, image: Tensor, values: Tensor) -> float:
    return road(Probe(values, image[0], Scorer(model, ClassScore(CLASS), "softmax")))


def grad_cam_road_module() -> ModuleType:
    """The peer's module, imported without torchvision."""
    grad_cam_library()
    return import_module("pytorch_grad_cam.metrics.road")


def grad_cam_road(model: nn.Module, image: Tensor, values: Tensor) -> float:
    ROADCombined = grad_cam_road_module().ROADCombined
    target = [lambda output: output.softmax(0)[CLASS]]
    return float(ROADCombined()(image, values[None].numpy(), target, model)[0])


def quantus_road(model: nn.Module, image: Tensor, values: Tensor) -> float:
    import quantus

    levels = [round(100 * level) for level in ROAD_LEVELS]
    metric = quantus.ROAD(noise=0.01, percentages=levels, disable_warnings=True)
    found = metric(model, image.numpy(), np.array([CLASS]), values[None, None].numpy(), channel_first=True)
    return float(np.mean(list(found.values())))


@dataclass(frozen=True)
class Row:
    """Median seconds by the clock and of the processor (which other work on the machine does not lengthen)."""

    seconds: float
    cpu: float
    answer: object


def timed(calls: dict[str, Call], rounds: int) -> dict[str, Row]:
    """One row per call; a peer that is not here says so."""
    times: dict[str, list[tuple[float, float]]] = {}
    answers: dict[str, object] = {}
    for _ in range(rounds):
        for name, call in calls.items():
            started, worked = time.perf_counter(), time.process_time()
            try:
                answers[name] = call()
            except ImportError as error:
                answers[name] = f"not installed: {error.name}"
                continue
            times.setdefault(name, []).append((time.perf_counter() - started, time.process_time() - worked))
    medians = {name: tuple(map(statistics.median, zip(*rows, strict=True))) for name, rows in times.items()}
    return {name: Row(*medians.get(name, (np.nan, np.nan)), answers[name]) for name in calls}


def show(title: str, found: dict[str, Row]) -> None:
    table = Table("", "seconds", "of CPU", "ratio to medxai", "of CPU", "answer", title=title)
    base = found["medxai"]
    for name, row in found.items():
        ratios = (f"{row.seconds / base.seconds:.1f}x", f"{row.cpu / base.cpu:.1f}x")
        table.add_row(name, f"{row.seconds:.2f}", f"{row.cpu:.2f}", *ratios, _short(row.answer))
    Console(width=120).print(table)


def imputation_3d(side: int, rounds: int) -> None:
    """Seconds for one level, the holes being the top share of a smooth map."""
    image, values = smooth((side,) * 3, 0, 2)[None, None], smooth((side,) * 3, 1, 4)
    table = Table("removed", "seconds per level", "of CPU", title=f"ROAD imputation of {side}^3 voxels")
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        holes = (values > values.quantile(1 - share))[None]
        row = timed({"level": partial(solve, image, holes)}, rounds)["level"]
        table.add_row(f"{share:.0%}", f"{row.seconds:.2f}", f"{row.cpu:.2f}")
    Console(width=120).print(table)


def imputation_2d(side: int, rounds: int) -> None:
    """One level without noise: our fill against grad-cam's, the largest difference beside the times."""
    image, values = smooth((side, side), 0, 3)[None], smooth((side, side), 1, 8)
    kept = (values <= values.quantile(0.5)).float()
    fill = NoisyLinear(0.0)(Scene(image, torch.ones_like(values, dtype=torch.bool)))

    def theirs() -> Tensor:
        filled: Tensor = grad_cam_road_module().NoisyLinearImputer(noise=0)(image, kept)
        return filled

    found = timed({"medxai": lambda: fill(kept[None] == 0)[0], "grad-cam": theirs}, rounds)
    ours, other = (found[name].answer for name in ("medxai", "grad-cam"))
    if isinstance(ours, Tensor) and isinstance(other, Tensor):
        apart = f"differs by {float((ours - other).abs().max()):.1e} at most"
        found["grad-cam"] = replace(found["grad-cam"], answer=apart)
    show(f"ROAD imputation of {side}^2 pixels, half removed", found)


def _short(answer: object) -> str:
    if isinstance(answer, Tensor):
        return f"values in [{float(answer.min()):.2f}, {float(answer.max()):.2f}]"
    return ", ".join(f"{v:.6f}" for v in np.ravel(answer)) if not isinstance(answer, str) else answer


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--side", type=int, default=224)
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    asked = question(chosen.side)
    our_areas(*question(64))
    areas = {
        "medxai": our_areas,
        "torchcam": torchcam_areas,
        "Quantus (deletion alone)": quantus_curve,
        "bound": passes,
    }
    roads = {"medxai": our_road, "grad-cam": grad_cam_road, "Quantus (accuracy, not score)": quantus_road}
    size = f"1x1x{chosen.side}x{chosen.side}"
    for title, calls in ((f"deletion and insertion, 100 levels, {size}", areas), (f"ROAD, 9 levels, {size}", roads)):
        show(title, timed({name: partial(call, *asked) for name, call in calls.items()}, chosen.rounds))
    imputation_2d(chosen.side, chosen.rounds)
    imputation_3d(64, chosen.rounds)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {chosen.rounds} rounds")


if __name__ == "__main__":
    main()
