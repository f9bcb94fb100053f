"""Every method of the catalogue on tumour patches of patients never seen: `python -m benchmarks.brats_methods`.

For each patient: train on the other three, and ask every method about the same patches with tumour of this one. The
voxels are those of `benchmarks.brats_patches`, cut from the brain on the 2 mm grid, and the scores are counted on the
annotation's own 1 mm voxels. Metrics that ask the network again replace what they remove by the median of the patient's
tissue, 0 in both channels.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

import medxai
from benchmarks.brats.cohort import DATA, Patient, crop_recipe, load_patients, within
from benchmarks.brats.model import EVIDENCE
from benchmarks.brats.scoring import METRICS, PAIRS, TUMOUR
from benchmarks.brats.training import train
from benchmarks.gallery import Scan, draw
from benchmarks.survey import NETWORK, Column, Maker, Question, named, options, report, survey
from medxai import Asking, Case, Volume
from medxai.evaluation.presets import apart
from medxai.metrics.curves import Perturbation
from medxai.metrics.imputation import Constant
from medxai.model.scoring import Scorer

LAYERS = ("stem", "local.1", EVIDENCE)
HEADS = {
    "pointing_game": "hit",
    "mass_in_mask": "mass in mask",
    "ehr_mass": "EHR",
    "deletion": "deletion (low)",
    "insertion": "insertion (high)",
    "iou_at_mask_size": "IoU at mask size",
}
TISSUE = Perturbation(baseline=Constant(0.0))


def main() -> None:
    asked = options(__doc__, DATA, Path("out/brats"))
    asked.add_argument("--patches", type=int, default=10, help="patches explained, per method and held-out patient")
    asked.add_argument("--right", action="store_true", help="only those of the patches that the network calls tumour")
    asked.add_argument("--metrics", nargs="+", default=METRICS, help="the last orders the table")
    asked.add_argument("--picture", type=int, help="draw the maps of this patch, from 1; they are images of patients")
    chosen = asked.parse_args()
    posed = questions(load_patients(chosen.data), chosen.patches, chosen.seed)
    posed = [one for one in posed if probability(one) > 0.5] if chosen.right else posed
    heads = columns(chosen.metrics)
    rows = survey(posed, heads, named(chosen.methods), chosen.seconds)
    report(rows, heads, chosen.out / "methods.json", {"patches": len(posed)})
    if chosen.picture:
        picture(posed[chosen.picture - 1], named(chosen.methods), chosen.out / "methods.png")


def probability(question: Question) -> float:
    """How sure the network is of a tumour in the patch."""
    asking = question.asking
    images = asking.recipe.apply(question.case.image).images
    return float(Scorer(asking.model, asking.target, asking.scale)(images)[0])


def picture(question: Question, methods: Mapping[str, Maker], path: Path) -> None:
    """The FLAIR patch, the tumour's outline and the map of each method."""
    asking = question.asking
    patch = asking.recipe.apply(question.case.image)
    case = Case(question.case.id, Volume(patch.images[0], patch.geometry))
    found = {
        name: medxai.explain(asking.model, question.case, made(question), asking.target, asking.recipe)
        for name, made in methods.items()
    }
    draw(Scan(case, question.masks["tumour"], asking.model, asking.recipe), found, path, columns=4)


def columns(metrics: Sequence[str]) -> list[Column]:
    """Each metric beside the tumour, or the network where it asks that again."""
    _, asked = apart(metrics)
    return [Column(HEADS.get(name, name), NETWORK if name in asked else "tumour", name) for name in metrics]


def questions(patients: Sequence[Patient], patches: int, seed: int) -> list[Question]:
    """The first `patches` patches that `brats_patches` explains of each patient, the patients taking turns."""
    return [one for turn in zip(*(_of(patients, who, patches, seed) for who in patients), strict=True) for one in turn]


def _of(patients: Sequence[Patient], held_out: Patient, patches: int, seed: int) -> Iterator[Question]:
    model = train([other for other in patients if other is not held_out], seed)
    ill = np.random.default_rng(1).choice(held_out.diseased(), PAIRS, replace=False)
    for i, j, k in ill[:patches].tolist():
        recipe = crop_recipe((i, j, k))
        tumour = within(held_out.tumour, recipe.apply(held_out.brain.image).geometry)
        asking = Asking(model, TUMOUR, recipe, link="softmax", perturbation=TISSUE)
        yield Question(asking, EVIDENCE, held_out.brain, {"tumour": tumour}, LAYERS)


if __name__ == "__main__":
    main()
