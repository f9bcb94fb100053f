"""Do the metrics agree on which map is better? `python -m benchmarks.agreement`

On tumour patches of a patient never seen: Spearman's correlation of every two metrics over the patches, and Kendall's
W of all of them.
"""

import argparse
from pathlib import Path

import numpy as np

import medxai
from benchmarks.brats.cohort import DATA, crop_recipe, load_patients, within
from benchmarks.brats.scoring import METHOD, PAIRS, TUMOUR
from benchmarks.brats.training import STEPS, train
from medxai import catalog
from medxai.evaluation import Chance, evaluate
from medxai.evaluation.presets import chosen
from medxai.statistics.relation import concordance, correlations
from medxai.statistics.sample import sample, summary

SHOWN = (
    "pointing_game", "mass_in_mask", "iou_at_mask_size", "auroc", "average_precision", "iou_at_otsu", "best_iou",
    "ehr_mass", "centroid_distance", "hd95_at_half_maximum", "lesion_recall", "box_iou_at_half_maximum",
)  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=DATA, help="folder of the four patients")
    options.add_argument("--patches", type=int, default=40)
    options.add_argument("--patient", type=int, default=3, help="the one held out, from 1 on")
    options.add_argument("--steps", type=int, default=STEPS, help="batches of training")
    asked = options.parse_args()
    patients = load_patients(asked.data)
    held = patients[asked.patient - 1]
    model = train([patient for patient in patients if patient is not held], steps=asked.steps)
    values: dict[str, list[float]] = {row.name: [] for row in chosen(None, "full") if row.needs == "mask"}
    reasons: dict[str, list[str]] = {name: [] for name in values}
    for corner in np.random.default_rng(1).choice(held.diseased(), PAIRS, replace=False)[: asked.patches]:
        i, j, k = corner.tolist()
        saliency = medxai.explain(model, held.brain, METHOD, TUMOUR, crop_recipe((i, j, k)))
        found = evaluate(saliency, within(held.tumour, saliency.seen), list(values), chance=Chance(noise=False))
        for score in found.scores:
            values[score.metric].append(score.value)
            reasons[score.metric].append(score.reason)
    report(values, reasons, held.case.id)


def report(values: dict[str, list[float]], reasons: dict[str, list[str]], patient: str) -> None:
    rows = catalog.metrics()
    better = {name: [-v if rows[name].better == "lower" else v for v in column] for name, column in values.items()}
    for name, column in values.items():
        print(f"{name:32s} {summary(sample(column, [patient] * len(column), reasons[name]))}")
    rho = correlations({name: better[name] for name in SHOWN})
    print("\n| | " + " | ".join(str(n) for n in range(1, len(SHOWN) + 1)) + " |")
    print("|---" * (len(SHOWN) + 1) + "|")
    for n, one in enumerate(SHOWN, 1):
        cells = [_said(rho.get((one, other), rho.get((other, one), 1.0))) for other in SHOWN]
        print(f"| {n} `{one}` | {' | '.join(cells)} |")
    varied = [name for name, column in better.items() if np.nanstd(column) > 0]
    together = concordance(np.array([better[name] for name in varied]))
    print(f"\nKendall's W of the {len(varied)} metrics that vary: {together:.3f}")


def _said(rho: float) -> str:
    return "" if np.isnan(rho) else f"{rho:.2f}"


if __name__ == "__main__":
    main()
