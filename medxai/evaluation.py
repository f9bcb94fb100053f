"""Is the saliency where the disease is: every metric beside its chance rows, on the annotation's own grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch

from medxai.catalog import find, metrics
from medxai.core.saliency import Saliency
from medxai.core.volume import Mask
from medxai.errors import MaskError, UsageError
from medxai.metrics.chance import baselines
from medxai.metrics.domain import seen
from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, reason
from medxai.shapes import Map, MaskArray


@dataclass(frozen=True, slots=True)
class Score:
    """One metric's value beside what maps that know nothing would score; NaN has a reason."""

    metric: str
    value: float
    chance: Mapping[str, float]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All scores of one saliency against one mask."""

    scores: tuple[Score, ...]
    mask_voxels: int
    mask_seen: float
    notices: tuple[str, ...] = ()

    def __getitem__(self, metric: str) -> Score:
        return find({score.metric: score for score in self.scores}, metric)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an undefined number is null and keeps its reason."""
        rows = [
            {
                "metric": s.metric,
                "value": _number(s.value),
                "chance": {name: _number(value) for name, value in s.chance.items()},
                "reason": s.reason,
            }
            for s in self.scores
        ]
        return {
            "scores": rows,
            "mask_voxels": self.mask_voxels,
            "mask_share_seen_by_model": _number(self.mask_seen),
            "notices": list(self.notices),
        }


def evaluate(saliency: Saliency, mask: Mask, names: Sequence[str] | None = None) -> Evaluation:
    """Score `saliency`, read once at the voxels of `mask`, by the named metrics (all mask metrics by default).

    A degenerate map and an empty mask give NaN and the reason, never a hit or a miss. Raises MaskError where the model
    saw no voxel of a mask that is not empty, and UsageError for a metric that needs more than a map and a mask.
    """
    chosen = _chosen(names)
    values = saliency.on(mask.geometry)
    share = share_within(mask, seen(values))
    degenerate = "" if saliency.status.ok else f"degenerate map: {saliency.status.reason}"
    reading = Reading(values, mask.data, mask.geometry)
    chance = {name: reading.of(knows_nothing) for name, knows_nothing in baselines(values).items()}
    scores = [_score(spec, reading, chance, degenerate) for spec in chosen]
    notices = (*saliency.provenance.notices, *mask.notices, *_remarks(values, mask, share))
    return Evaluation(tuple(scores), int(torch.count_nonzero(mask.data)), share, notices)


def share_within(mask: Mask, field: MaskArray) -> float:
    """Which share of the mask lies in `field`, NaN for an empty mask. Raises MaskError where none of it does."""
    voxels = int(torch.count_nonzero(mask.data))
    if not voxels:
        return float("nan")
    within = int(torch.count_nonzero(mask.data & field))
    if not within:
        raise MaskError(
            "The model sees no voxel of this mask.",
            expected="a mask within the image, and within what the recipe left of it",
            found=f"{voxels} mask voxels, all outside, on {mask.geometry}",
            remedy="Check that image and mask are of the same patient and frame of reference.",
        )
    return within / voxels


def _chosen(names: Sequence[str] | None) -> list[MetricSpec]:
    table = metrics()
    if names is None:
        return [spec for spec in table.values() if spec.needs == "mask"]
    chosen = [find(table, name) for name in names]
    for spec in chosen:
        if spec.needs != "mask":
            raise UsageError(
                f"{spec.name!r} is not scored from a map and a mask alone.", found=f"a metric that needs a {spec.needs}"
            )
    return chosen


def _score(spec: MetricSpec, reading: Reading, chance: Mapping[str, Reading], degenerate: str) -> Score:
    expected = {name: float(spec.fn(knows_nothing)) for name, knows_nothing in chance.items()}
    value = float("nan") if degenerate else spec.fn(reading)
    return Score(spec.name, float(value), expected, degenerate or reason(value))


def _remarks(values: Map, mask: Mask, share: float) -> tuple[str, ...]:
    remarks = []
    if share < 1:
        remarks.append(f"{1 - share:.1%} of the mask lies outside what the model saw and counts as missed")
    if bool(mask.data[seen(values)].all()):
        remarks.append("the mask covers everything that the model saw, so no map can do better than another")
    return tuple(remarks)


def _number(value: float) -> float | None:
    return None if isnan(value) else value
