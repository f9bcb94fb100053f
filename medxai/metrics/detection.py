"""A map cut into candidates, each with its confidence, matched to lesions as the PI-CAI challenge does.

Candidates and lesions are regions that touch at a face, an edge or a corner. A pair may match where their intersection
over union reaches a minimum; among the matchings with most pairs the one with most overlap is taken. Candidates that
overlap a lesion enough but lost it to another count neither way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from medxai.metrics.places import Voxels, components, region, touching
from medxai.metrics.ranking import Array, Ranking
from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, Undefined

MINIMUM_IOU = 0.1


@dataclass(frozen=True, eq=False)
class Detections:
    """Confidence and overlap of the candidate of each lesion, 0 where missed, and confidences of false candidates."""

    found: Array
    overlap: Array
    false: Array

    @property
    def lesions(self) -> int:
        return int(self.found.size)

    @property
    def confidence(self) -> float:
        """The highest confidence of any candidate that counts, 0 without one."""
        return float(max([0.0, *self.found, *self.false]))


def detections(confidence: Array, mask: Voxels, minimum_iou: float = MINIMUM_IOU) -> Detections:
    """The candidates of a detection map (0 is none; a candidate's confidence is its largest) against a mask."""
    shape = touching(mask.ndim)
    candidates, number = components(confidence, shape)
    lesions, count = components(mask, shape)
    marked = np.flatnonzero(candidates)
    owner, lesion = candidates.ravel()[marked], lesions.ravel()[marked]
    heights = np.zeros(number + 1)
    np.maximum.at(heights, owner, confidence.ravel()[marked])
    heights = heights[1:]
    both = np.bincount(lesion * (number + 1) + owner, minlength=(count + 1) * (number + 1)).astype(float)
    both = both.reshape(count + 1, number + 1)
    both[:, 0] = np.bincount(lesions.ravel(), minlength=count + 1) - both[:, 1:].sum(1)
    union = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    iou = both[1:, 1:] / union[1:, 1:]
    enough = np.where(iou >= minimum_iou, 1 + iou, 0.0)
    rows, columns = linear_sum_assignment(enough, maximize=True)
    kept = enough[rows, columns] > 0
    rows, columns = rows[kept], columns[kept]
    found, overlap = np.zeros(count), np.zeros(count)
    found[rows], overlap[rows] = heights[columns], iou[rows, columns]
    return Detections(found, overlap, heights[~(enough > 0).any(0)])


def detection_average_precision(cases: Sequence[Detections]) -> float:
    """Area under the steps of precision over lesion recall, candidates pooled; a missed lesion is never reached."""
    lesions = sum(case.lesions for case in cases)
    if not lesions:
        return Undefined("no case has a lesion")
    found = np.sort(np.concatenate([case.found for case in cases]))
    found = found[found > 0]
    everything = np.sort(np.concatenate([found, *(case.false for case in cases)]))
    return Ranking(everything, found, np.ones(found.size), float(lesions)).average_precision()


def detection_auroc(cases: Sequence[Detections], confidences: Sequence[float]) -> float:
    """Probability that a case with a lesion has a higher confidence than one without, ties counting half."""
    sick = np.array([case.lesions > 0 for case in cases])
    if not sick.any():
        return Undefined("no case has a lesion")
    scores = np.asarray(confidences, float)
    return Ranking(np.sort(scores), np.sort(scores[sick]), np.ones(sick.sum()), float(sick.sum())).auroc()


def lesion_recall_at_half_maximum(reading: Reading) -> float:
    """Share of the lesions that a part of S >= max S / 2 covers with intersection over union of 0.1 or more."""
    if reading.undefined:
        return Undefined(reading.undefined)
    core = torch.where(reading.values >= reading.peak / 2, reading.positive, 0.0).numpy()
    found = detections(core, region(reading))
    return float((found.found > 0).mean()) if found.lesions else Undefined("no voxel of the mask is a half")


METRICS = (
    MetricSpec(
        lesion_recall_at_half_maximum,
        "mask",
        best=1.0,
        span=(0.0, 1.0),
        claims=("exact", "inverted"),
        ties="together",
    ),
)
