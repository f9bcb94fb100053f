"""Which of four nodules raises a score, asked of bottlenecks: `python -m benchmarks.lidc_regression`.

Trains the small 3D network of `benchmarks.lidc_mosaic` to answer how malignant readers found a nodule, 1 to 5, states
the rank correlation with their score on test patients, and lays out mosaics of one nodule of a high score among three
of a low one, of four patients, which the network answers above 3.5 and below 2.5 when alone. What raises the answer for
the mosaic should lie in the tile of the high one.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from benchmarks.lidc.cohort import DATA, Nodule, load_nodules, split, tiles
from benchmarks.lidc.mosaic import mosaics
from benchmarks.lidc.training import train_regressor
from benchmarks.lidc_mosaic import COLUMNS, questions
from benchmarks.survey import Maker, Question, named, options, report, survey
from medxai import catalog
from medxai.attribution.bottleneck.objective import Aim
from medxai.attribution.bottleneck.regression import InverseRegressionIBA, RegressionIBA
from medxai.core.target import RegressionScore

Regressing = RegressionIBA | InverseRegressionIBA

LOW, HIGH = 2, 4
OTHERS = ("GradCAM", "LayerCAM", "LayerIntegratedGradients", "IBA", "InverseIBA")
AIMS: Mapping[str, tuple[Aim, float | None]] = {
    "deviation": ("deviation", None),
    "raise": ("raise", None),
    "reach 5": ("reach", 5.0),
}


def main() -> None:
    asked = options(__doc__, DATA, Path("out/lidc"))
    asked.add_argument("--mosaics", type=int, default=40)
    chosen = asked.parse_args()
    nodules, small = load_nodules(chosen.data)
    learned, kept = split(nodules, chosen.seed)
    model = train_regressor(learned, chosen.seed)
    answers = answered(model, kept)
    read = np.array([nodule.score for nodule in kept])
    high = [kept[i] for i in np.flatnonzero((read >= HIGH) & (answers >= HIGH - 0.5))]
    low = [kept[i] for i in np.flatnonzero((read <= LOW) & (answers <= LOW + 0.5))]
    facts = {
        "left out, crop smaller than a tile": small,
        "trained on": len(learned),
        "tested on": len(kept),
        "Spearman's correlation with the score": float(spearmanr(answers, read).statistic),
        "that of the diameter": float(spearmanr([nodule.diameter for nodule in kept], read).statistic),
        "mean distance from the score": float(np.abs(answers - read).mean()),
        "that of the middle of the scale": float(np.abs(3 - read).mean()),
        "high, of them answered so": [int((read >= HIGH).sum()), len(high)],
        "low, of them answered so": [int((read <= LOW).sum()), len(low)],
        "mosaics": chosen.mosaics,
    }
    print(facts)
    posed = questions(model, RegressionScore(), mosaics(high, low, chosen.mosaics, chosen.seed))
    known = named(OTHERS) | bottlenecks()
    methods = {name: catalog.find(known, name) for name in chosen.methods or known}
    rows = survey(posed, COLUMNS, methods, chosen.seconds)
    report(rows, COLUMNS, chosen.out / "regression.json", facts)


def bottlenecks() -> dict[str, Maker]:
    """Both bottlenecks of a regressor, with each aim."""
    return {
        f"{kind.__name__}, {name}": partial(_at, kind, *aim)
        for kind in (RegressionIBA, InverseRegressionIBA)
        for name, aim in AIMS.items()
    }


def _at(kind: type[Regressing], aim: Aim, value: float | None, question: Question) -> Regressing:
    return kind(layer=question.layer, aim=aim, value=value)


def answered(model: nn.Module, nodules: Sequence[Nodule]) -> NDArray[np.float32]:
    """The score that the network gives each nodule alone."""
    with torch.no_grad():
        return np.asarray(model(tiles(nodules))[:, 0].numpy())


if __name__ == "__main__":
    main()
