"""Is the saliency where the disease is: every metric beside its chance rows, on the annotation's own grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch

from medxai.catalog import find, metrics
from medxai.core.geometry import Geometry
from medxai.core.pairing import paired
from medxai.core.saliency import Saliency
from medxai.core.volume import Mask
from medxai.errors import MaskError, UsageError
from medxai.io.options import DEFAULT, ReadOptions
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


def evaluate(
    saliency: Saliency, mask: Mask, names: Sequence[str] | None = None, options: ReadOptions = DEFAULT
) -> Evaluation:
    """Score `saliency`, read once at the voxels of `mask`, by the named metrics (all mask metrics by default).

    A degenerate map and an empty mask give NaN and the reason, never a hit or a miss. Raises MaskError where the model
    saw no voxel of a mask that is not empty and where mask and image do not belong together (`medxai.core.pairing`;
    of `options` count `strict_grid` and `other_grid`), and UsageError for a metric that needs more than a map and a
    mask.
    """
    chosen = _chosen(names)
    pairing = belonging(saliency.source, mask, options)
    values = saliency.on(mask.geometry)
    share = share_within(mask, seen(values))
    degenerate = "" if saliency.status.ok else f"degenerate map: {saliency.status.reason}"
    reading = Reading(values, mask.data, mask.geometry)
    chance = {name: reading.of(knows_nothing) for name, knows_nothing in baselines(values).items()}
    scores = [_score(spec, reading, chance, degenerate) for spec in chosen]
    notices = (*saliency.provenance.notices, *mask.notices, *pairing, *_remarks(values, mask, share))
    return Evaluation(tuple(scores), int(torch.count_nonzero(mask.data)), share, notices)


def belonging(image: Geometry | None, mask: Mask, options: ReadOptions = DEFAULT) -> tuple[str, ...]:
    """What there is to notice of a mask beside its image; nothing where the image's grid is unknown."""
    if image is None:
        return ()
    return paired(image, mask.geometry, same_grid=options.strict_grid, other_grid=options.other_grid)


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
            code="M09",
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
        remarks.append(f"M01: {1 - share:.1%} of the mask lies outside what the model saw and counts as missed")
    if bool(mask.data[seen(values)].all()):
        remarks.append("M04: the mask covers everything that the model saw, so no map can do better than another")
    return tuple(remarks)


def _number(value: float) -> float | None:
    return None if isnan(value) else value
