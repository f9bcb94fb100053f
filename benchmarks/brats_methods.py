"""Every method of the catalogue on tumour patches of patients never seen: `python -m benchmarks.brats_methods`.

For each patient: train on the other three, and ask every method about the same patches with tumour of this one. The
voxels are those of `benchmarks.brats_patches`, cut from the brain on the 2 mm grid, and the scores are counted on the
annotation's own 1 mm voxels.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.brats.cohort import DATA, Patient, crop_recipe, load_patients, within
from benchmarks.brats.model import EVIDENCE
from benchmarks.brats.scoring import PAIRS, TUMOUR
from benchmarks.brats.training import train
from benchmarks.survey import Column, Question, Row, markdown, survey, write

COLUMNS = (
    Column("hit", "tumour", "pointing_game"),
    Column("mass in mask", "tumour", "mass_in_mask"),
    Column("IoU at mask size", "tumour", "iou_at_mask_size"),
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=DATA, help="folder of the four patients")
    options.add_argument("--patches", type=int, default=10, help="patches explained, per method and held-out patient")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--methods", nargs="*", default=(), help="names of the catalogue; all of it by default")
    options.add_argument("--out", type=Path, default=Path("out/brats"), help="folder for the JSON")
    chosen = options.parse_args()
    console, started = Console(width=150), time.perf_counter()
    asked = list(questions(load_patients(chosen.data), chosen.patches, chosen.seed))
    rows: list[Row] = []
    for row in survey(asked, chosen.methods):
        rows.append(row)
        spent = time.perf_counter() - started
        console.print(f"{row.method}: {row.refused or f'{row.seconds:.2f} s per map'}, {spent:.0f} s so far")
        write(chosen.out / "methods.json", rows, {"patches": len(asked)})
    print(markdown(rows, COLUMNS))


def questions(patients: Sequence[Patient], patches: int, seed: int) -> Iterator[Question]:
    """The first `patches` patches that `brats_patches` explains of each patient, with the network for that patient."""
    for patient in patients:
        model = train([other for other in patients if other is not patient], seed)
        ill = np.random.default_rng(1).choice(patient.diseased(), PAIRS, replace=False)
        for i, j, k in ill[:patches].tolist():
            recipe = crop_recipe((i, j, k))
            tumour = within(patient.tumour, recipe.apply(patient.brain.image).geometry)
            yield Question(model, EVIDENCE, patient.brain, recipe, TUMOUR, {"tumour": tumour})


if __name__ == "__main__":
    main()
