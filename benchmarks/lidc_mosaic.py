"""Which of four nodules is the malignant one, asked of every method: `python -m benchmarks.lidc_mosaic`.

Trains a small 3D classifier on the nodules of some patients, states its AUC on the others, and lays out mosaics of one
malignant and three benign test nodules, of four patients, each of which the classifier tells right when alone. A map of
the malignant class should lie in the malignant tile (grid pointing game), and there on the nodule.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from torch import nn

from benchmarks.lidc.cohort import DATA, Nodule, load_nodules, split, tiles
from benchmarks.lidc.model import EVIDENCE
from benchmarks.lidc.mosaic import Mosaic, mosaic_recipe, mosaics
from benchmarks.lidc.training import train
from benchmarks.survey import Column, Question, named, options, report, survey
from medxai import Asking, ClassScore
from medxai.core.target import Target

COLUMNS = (
    Column("tile hit", "tile", "pointing_game"),
    Column("nodule hit", "nodule", "pointing_game"),
    Column("nodule mass", "nodule", "mass_in_mask"),
    Column("nodule IoU", "nodule", "iou_at_mask_size"),
    Column("tile share", "tile", "mass_in_mask"),
)


def main() -> None:
    asked = options(__doc__, DATA, Path("out/lidc"))
    asked.add_argument("--mosaics", type=int, default=40)
    chosen = asked.parse_args()
    nodules, small = load_nodules(chosen.data)
    learned, kept = split(nodules, chosen.seed)
    model = train(learned, chosen.seed)
    margins = margin(model, kept)
    malignant = np.array([nodule.malignant for nodule in kept])
    right = [nodule for nodule, sure in zip(kept, (margins > 0) == malignant, strict=True) if sure]
    facts = {
        "nodules": len(nodules),
        "left out, crop smaller than a tile": small,
        "trained on": len(learned),
        "tested on": len(kept),
        "malignant in the test": int(malignant.sum()),
        "AUC": auc(margins[malignant], margins[~malignant]),
        "told right alone": len(right),
        "malignant told right": sum(nodule.malignant for nodule in right),
        "mosaics": chosen.mosaics,
    }
    print(facts)
    sick, well = ([nodule for nodule in right if nodule.malignant == kind] for kind in (True, False))
    posed = questions(model, ClassScore(1), mosaics(sick, well, chosen.mosaics, chosen.seed))
    rows = survey(posed, COLUMNS, named(chosen.methods), chosen.seconds)
    report(rows, COLUMNS, chosen.out / "mosaic.json", facts)


def questions(model: nn.Module, target: Target, laid: Sequence[Mosaic]) -> list[Question]:
    """Where is the malignant tile, and the nodule in it?"""
    asking = Asking(model, target, mosaic_recipe())
    return [Question(asking, EVIDENCE, one.case, {"tile": one.tile, "nodule": one.nodule}) for one in laid]


def margin(model: nn.Module, nodules: Sequence[Nodule]) -> NDArray[np.float32]:
    """How far the logit of malignant lies above that of benign, of each nodule alone."""
    with torch.no_grad():
        logits = model(tiles(nodules))
    return np.asarray((logits[:, 1] - logits[:, 0]).numpy())


def auc(sick: NDArray[np.float32], well: NDArray[np.float32]) -> float:
    """Share of the pairs (sick, well) in which the sick scores higher; a tie counts half."""
    return float(mannwhitneyu(sick, well).statistic / (len(sick) * len(well)))


if __name__ == "__main__":
    main()
