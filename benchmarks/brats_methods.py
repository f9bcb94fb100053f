"""Every method of the catalogue on tumour patches of patients never seen: `python -m benchmarks.brats_methods`.

For each patient: train on the other three, and ask every method about the same patches with tumour of this one. The
voxels are those of `benchmarks.brats_patches`, cut from the brain on the 2 mm grid, and the scores are counted on the
annotation's own 1 mm voxels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.brats.cohort import DATA, Patient, crop_recipe, load_patients, within
from benchmarks.brats.model import EVIDENCE
from benchmarks.brats.scoring import PAIRS, TUMOUR
from benchmarks.brats.training import train
from benchmarks.survey import Column, Question, options, report, survey

COLUMNS = (
    Column("hit", "tumour", "pointing_game"),
    Column("mass in mask", "tumour", "mass_in_mask"),
    Column("IoU at mask size", "tumour", "iou_at_mask_size"),
)


def main() -> None:
    asked = options(__doc__, DATA, Path("out/brats"))
    asked.add_argument("--patches", type=int, default=10, help="patches explained, per method and held-out patient")
    chosen = asked.parse_args()
    posed = questions(load_patients(chosen.data), chosen.patches, chosen.seed)
    rows = survey(posed, chosen.methods, chosen.seconds)
    report(rows, COLUMNS, chosen.out / "methods.json", {"patches": len(posed)})


def questions(patients: Sequence[Patient], patches: int, seed: int) -> list[Question]:
    """The first `patches` patches that `brats_patches` explains of each patient, the patients taking turns."""
    return [one for turn in zip(*(_of(patients, who, patches, seed) for who in patients), strict=True) for one in turn]


def _of(patients: Sequence[Patient], held_out: Patient, patches: int, seed: int) -> Iterator[Question]:
    model = train([other for other in patients if other is not held_out], seed)
    ill = np.random.default_rng(1).choice(held_out.diseased(), PAIRS, replace=False)
    for i, j, k in ill[:patches].tolist():
        recipe = crop_recipe((i, j, k))
        tumour = within(held_out.tumour, recipe.apply(held_out.brain.image).geometry)
        yield Question(model, EVIDENCE, held_out.brain, recipe, TUMOUR, {"tumour": tumour})


if __name__ == "__main__":
    main()
