"""One held-out patient: is the classifier right, and do its maps lie on the tumour, patch by patch in the patient."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy.stats import mannwhitneyu
from torch import nn

import medxai
from benchmarks.brats.cohort import Corners, Patient, patch_recipe, within
from benchmarks.brats.model import EVIDENCE
from medxai import ClassScore, Evaluation, GradCAM, Saliency

TUMOUR = ClassScore(1)
METHOD = GradCAM(layer=EVIDENCE)
PAIRS = 200  # patches with and without tumour that the AUC is counted over
METRICS = ("pointing_game", "mass_in_mask", "iou_at_mask_size")


@dataclass(frozen=True)
class Fold:
    """What was measured on one patient whom training never saw; means over the patches with tumour."""

    patient: str
    patches: int
    degenerate: int
    auc: float
    lesion_share: float
    value: dict[str, float]
    uniform: dict[str, float]
    centre: dict[str, float]


def score(model: nn.Module, patient: Patient, patches: int, seed: int = 1) -> Fold:
    """AUC over 200 patches with tumour and as many without; the localisation scores of the first `patches` with it."""
    rng = np.random.default_rng(seed)
    ill = rng.choice(patient.diseased(), PAIRS, replace=False)
    well = rng.choice(patient.healthy, PAIRS, replace=False)
    found = [judge(model, patient, corner) for corner in track(ill[:patches], "explaining", transient=True)]
    maps, rows = zip(*found, strict=True)
    return Fold(
        patient=patient.case.id,
        patches=patches,
        degenerate=sum(not saliency.status.ok for saliency in maps),
        auc=_auc(_margins(model, patient, ill), _margins(model, patient, well)),
        lesion_share=float(np.mean([row["mass_in_mask"].chance["uniform"] for row in rows])),
        value={name: float(np.nanmean([row[name].value for row in rows])) for name in METRICS},
        uniform={name: float(np.mean([row[name].chance["uniform"] for row in rows])) for name in METRICS},
        centre={name: float(np.mean([row[name].chance["centre"] for row in rows])) for name in METRICS},
    )


def judge(model: nn.Module, patient: Patient, corner: Corners) -> tuple[Saliency, Evaluation]:
    """The map of one patch, in the patient's millimetres, scored on the annotation's own 1 mm voxels in that patch."""
    i, j, k = corner.tolist()
    saliency = medxai.explain(model, patient.case, METHOD, TUMOUR, patch_recipe((i, j, k)))
    return saliency, medxai.evaluate(saliency, within(patient.tumour, saliency.seen), METRICS)


def _margins(model: nn.Module, patient: Patient, corners: Corners) -> NDArray[np.float32]:
    with torch.no_grad():
        logits = model(patient.patches(corners))
    return np.asarray((logits[:, 1] - logits[:, 0]).numpy())


def _auc(ill: NDArray[np.float32], well: NDArray[np.float32]) -> float:
    return float(mannwhitneyu(ill, well).statistic / (len(ill) * len(well)))
