"""Is the saliency where the disease is: every metric beside its chance rows, on the annotation's own grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from medxai.catalog import find, metrics
from medxai.core.saliency import Saliency
from medxai.core.volume import Mask
from medxai.errors import MaskError
from medxai.metrics.chance import baselines
from medxai.metrics.domain import seen, undefined
from medxai.shapes import Map


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
            "mask_share_seen_by_model": self.mask_seen,
            "notices": list(self.notices),
        }


def evaluate(saliency: Saliency, mask: Mask, names: Sequence[str] | None = None) -> Evaluation:
    """Score `saliency`, read once at the voxels of `mask`, by the named metrics (all mask metrics by default).

    A degenerate map and an empty mask give NaN and the reason, never a hit or a miss. Raises MaskError where the model
    saw no voxel of a mask that is not empty.
    """
    table = metrics()
    chosen = [find(table, name) for name in names] if names else list(table.values())
    values = saliency.on(mask.geometry)
    field = seen(values)
    voxels = int(mask.data.sum())
    share = float((mask.data & field).sum()) / voxels if voxels else float("nan")
    if share == 0:
        raise MaskError(
            "The model saw no voxel of this mask.",
            expected=f"a mask that overlaps the model's field {saliency.seen}",
            found=f"{voxels} mask voxels, all outside, on {mask.geometry}",
            remedy="Check that image and mask are of the same patient and frame of reference.",
        )
    reason = undefined(values, mask.data) if saliency.status.ok else f"degenerate map: {saliency.status.reason}"
    chance = baselines(values)
    scores = [
        Score(spec.name, *_score(spec.fn, values, mask, chance, reason), reason)
        for spec in chosen
        if spec.needs == "mask"
    ]
    return Evaluation(tuple(scores), voxels, share, (*mask.notices, *_remarks(values, mask, share)))


def _score(fn: Any, values: Map, mask: Mask, chance: Mapping[str, Map], reason: str) -> tuple[float, dict[str, float]]:
    expected = {name: fn(knows_nothing, mask.data) for name, knows_nothing in chance.items()}
    return (float("nan") if reason else fn(values, mask.data)), expected


def _remarks(values: Map, mask: Mask, share: float) -> tuple[str, ...]:
    remarks = []
    if share < 1:
        remarks.append(f"{1 - share:.1%} of the mask lies outside what the model saw and counts as missed")
    if bool((mask.data | ~seen(values)).all()):
        remarks.append("the mask covers everything that the model saw, so no map can do better than another")
    return tuple(remarks)


def _number(value: float) -> float | None:
    return None if isnan(value) else value
