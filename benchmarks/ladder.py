"""Maps of known merit on a model whose evidence is planted: `python -m benchmarks.ladder` prints what each metric says.

The evidence is a thin bright bar across a corner, the score a saturating function of its mean. The maps: the evidence
itself, blurred by 2 mm, moved by 10 mm, noise, and the complement of the evidence.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor

from medxai.catalog import metrics
from medxai.metrics.curves import Perturbation
from medxai.metrics.imputation import Blur
from medxai.metrics.probe import Classes, Probe
from medxai.metrics.spec import RUNGS
from medxai.metrics.units import Cubes

SHAPES = {"2D": (30, 28), "3D": (22, 20, 24)}


def planted(shape: tuple[int, ...], seed: int) -> tuple[Probe, Mapping[str, Tensor]]:
    """The probe of the evidence on 1 mm voxels, cubes of 2 mm giving way to a blur of 6 mm, and the ladder of maps."""
    draw = torch.Generator().manual_seed(seed)
    place = [int(n) for n in torch.randint(3, 7, (len(shape),), generator=draw)]
    bar = torch.zeros(shape)
    bar[tuple(slice(c, c + 2) for c in place)] = 1
    bar[(*[slice(c, c + 2) for c in place[:-1]], slice(place[-1], place[-1] + 12))] = 1
    bar[(slice(place[0], place[0] + 8), *[slice(c, c + 2) for c in place[1:]])] = 1
    image = 0.3 * torch.rand(1, *shape, generator=draw) + bar
    weight = bar.double() / bar.sum()

    def score(images: Tensor) -> Tensor:
        return torch.sigmoid(6 * (images[:, 0] * weight).flatten(1).sum(1) - 3)

    def answers(images: Tensor) -> Tensor:
        p = score(images)
        return torch.stack([1 - p, p], 1)

    removal = Perturbation(Cubes(2.0), Blur(6.0))
    probe = Probe(
        bar, image, score, (1.0,) * len(shape), perturbation=removal, classes=Classes(answers, asked=(1,), others=(0,))
    )
    blurred = Blur(2.0)(replace(probe, image=bar[None]).scene)(torch.ones(1, *shape, dtype=torch.bool))[0, 0]
    moved = bar.roll([10] + [0] * (len(shape) - 1), list(range(len(shape))))
    noise = torch.rand(shape, generator=draw)
    return probe, dict(zip(RUNGS, (bar, blurred, moved, noise, 1 - bar), strict=True))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scenes", type=int, default=3)
    count = options.parse_args().scenes
    scenes = [planted(shape, seed) for shape in SHAPES.values() for seed in range(count)]
    print(f"| metric | better | {' | '.join(RUNGS)} | claims to rank |\n|---|---|{'---|' * (len(RUNGS) + 1)}")
    for row in metrics().values():
        if row.needs == "probe":
            means = [fmean(row.fn(probe.of(ladder[rung])) for probe, ladder in scenes) for rung in RUNGS]
            cells = " | ".join(f"{value:.3f}" for value in means)
            print(f"| `{row.name}` | {row.better} | {cells} | {' > '.join(row.claims)} |")


if __name__ == "__main__":
    main()
