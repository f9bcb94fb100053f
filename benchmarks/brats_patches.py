"""Tumour or none in patches of real brains, leave one patient out: `python -m benchmarks.brats_patches`.

For each patient: train on the other three, ask the classifier about unseen patches, explain those with tumour through
medxai's public functions and score the maps against the annotation. Then held-out patients whole, with an overlay: the
maps of patches that cover the brain, merged on the scan's own grid.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

import medxai
from benchmarks.brats.cohort import DATA, load_patients
from benchmarks.brats.scoring import METRICS, Fold, score
from benchmarks.brats.training import train
from benchmarks.brats.whole import whole
from medxai.io.write import made_folder, write_json

HEADS = {"pointing_game": "hit", "mass_in_mask": "mass", "iou_at_mask_size": "IoU"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=DATA, help="folder of the four patients")
    options.add_argument("--patches", type=int, default=60, help="patches explained, per held-out patient")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--whole", type=int, nargs="*", default=[1], help="patients to show whole, by number from 0")
    options.add_argument("--out", type=Path, default=Path("out/brats"), help="folder for overlay and JSON")
    chosen = options.parse_args()
    started = time.perf_counter()
    patients = load_patients(chosen.data)
    console, folds, record = Console(width=150), list[Fold](), dict[str, Any](whole=[])
    for number, patient in enumerate(patients):
        model = train([other for other in patients if other is not patient], chosen.seed)
        folds.append(score(model, patient, chosen.patches))
        console.print(f"{patient.case.id}: AUC {folds[-1].auc:.4f}, {time.perf_counter() - started:.0f} s so far")
        if number in chosen.whole:
            saliency, patches = whole(model, patient)
            evaluation = medxai.evaluate(saliency, patient.tumour)
            medxai.save_overlay(saliency, patient.case, chosen.out / patient.case.id, patient.tumour, evaluation)
            record["whole"].append({"patient": patient.case.id, "patches": patches, **evaluation.as_dict()})
    console.print(_table(folds))
    for found in record["whole"]:
        console.print(_whole_table(found))
    record |= {"folds": [asdict(fold) for fold in folds], "seconds": round(time.perf_counter() - started)}
    write_json(made_folder(chosen.out) / "brats.json", record)
    console.print(f"{record['seconds']} s; overlay and numbers in {chosen.out}")


def _table(folds: Sequence[Fold]) -> Table:
    rows = [f"{HEADS[name]} {who}" for name in METRICS for who in ("map", "centre", "uniform")]
    table = Table(
        "held-out patient",
        "patches",
        "AUC",
        *rows,
        title="patches of patients never seen: Grad-CAM, and maps that know nothing",
    )
    for fold in folds:
        table.add_row(fold.patient.removeprefix("brats_2013_"), str(fold.patches), f"{fold.auc:.4f}", *_cells([fold]))
    table.add_row("mean", str(sum(f.patches for f in folds)), f"{fmean(f.auc for f in folds):.4f}", *_cells(folds))
    return table


def _cells(folds: Sequence[Fold]) -> list[str]:
    columns = [part for fold in folds for part in (fold.value, fold.centre, fold.uniform)]
    return [f"{fmean(column[name] for column in columns[who::3]):.3f}" for name in METRICS for who in range(3)]


def _whole_table(found: dict[str, Any]) -> Table:
    table = Table("metric", "map", "centre", "uniform", title=f"{found['patient']} whole, {found['patches']} patches")
    for row in found["scores"]:
        chance = row["chance"]
        table.add_row(row["metric"], *[f"{v:.3f}" for v in (row["value"], chance["centre"], chance["uniform"])])
    return table


if __name__ == "__main__":
    main()
