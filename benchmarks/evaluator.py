"""Processor seconds, on one thread, of the localisation suite on a brain of 240 x 240 x 155 voxels.

`python -m benchmarks.evaluator`
"""

from time import process_time as clock

import numpy as np
import torch
from scipy import ndimage

from medxai.catalog import metrics
from medxai.core.geometry import Geometry
from medxai.evaluation.chance import UNASKED, Chance, Rows
from medxai.evaluation.parts import parts_of
from medxai.evaluation.presets import chosen
from medxai.metrics.reading import Reading

SHAPE = (240, 240, 155)


def brain(seed: int = 0) -> Reading:
    """A map of 15 x 15 x 10 cells, rectified and read linearly, and a tumour of three lobes and 76 mL."""
    rng = np.random.default_rng(seed)
    cells = np.maximum(ndimage.gaussian_filter(rng.standard_normal((15, 15, 10)), 1), 0).astype(np.float32)
    values = ndimage.zoom(cells, [n / m for n, m in zip(SHAPE, cells.shape, strict=True)], order=1)
    places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    mask = np.zeros(SHAPE, bool)
    for middle, radius in (((100, 90, 70), 24), ((130, 100, 80), 14), ((60, 160, 90), 12)):
        mask |= ((places - middle) ** 2).sum(-1) < radius**2
    return Reading(torch.from_numpy(values), torch.from_numpy(mask), Geometry(np.eye(4), SHAPE))


def seconds(preset: str, against: Chance, maps: bool) -> float:
    """Time of all metrics of a preset on a map never seen before, and of the chance maps where asked for."""
    reading = brain()
    begun = clock()
    rows = Rows(reading, against)
    for spec in chosen(None, preset):
        spec.fn(reading)
        if maps:
            rows.of(spec)
    rows.p_values(chosen(None, preset))
    return clock() - begun


def each() -> None:
    """The time of every metric by itself, after the ranking is there."""
    reading = brain()
    begun = clock()
    _ = reading.ranking
    print(f"{'ranking, shared':34s} {clock() - begun:6.2f} s")
    for spec in metrics().values():
        if spec.needs in {"map", "mask"}:
            begun = clock()
            value = spec.fn(reading)
            print(f"{spec.name:34s} {clock() - begun:6.2f} s  {value:.4f}")


def main() -> None:
    torch.set_num_threads(1)
    each()
    for preset in ("basic", "full"):
        alone, beside = (seconds(preset, Chance(noise=False), maps) for maps in (False, True))
        print(f"{preset}: {alone:.2f} s, with its chance rows {beside:.2f} s", end=", ")
        print(f"with that of noise {seconds(preset, UNASKED, maps=True):.2f} s")
    reading = brain()
    begun = clock()
    parts_of(reading)
    print(f"what a table of cases keeps of one, after its scores: {clock() - begun:.2f} s")
    print(f"basic with 99 places: {seconds('basic', Chance(places=99), maps=False):.2f} s")


if __name__ == "__main__":
    main()
