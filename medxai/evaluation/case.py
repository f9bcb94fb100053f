"""One saliency against one annotation, or against each of several."""

from collections.abc import Mapping, Sequence
from math import isnan

import torch

from medxai.core.annotation import Annotation
from medxai.core.geometry import Geometry
from medxai.core.pairing import paired
from medxai.core.saliency import Saliency
from medxai.core.volume import Mask
from medxai.errors import GeometryError, MaskError, refuse_other_kind
from medxai.evaluation.chance import UNASKED, Chance, Rows
from medxai.evaluation.presets import chosen
from medxai.evaluation.score import Evaluation, Score
from medxai.io.options import DEFAULT, ReadOptions
from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, Undefined, reason
from medxai.shapes import MaskArray


def evaluate(
    saliency: Saliency,
    mask: Annotation,
    names: Sequence[str] | None = None,
    options: ReadOptions = DEFAULT,
    preset: str = "basic",
    chance: Chance = UNASKED,
    domain: Mask | None = None,
) -> Evaluation:
    """Score `saliency`, read once at the voxels of `mask`, by the named metrics or those of a preset.

    A degenerate map and an empty mask give NaN and the reason, never a hit or a miss. With a `domain` (body, lungs) the
    question is asked within it alone. Metrics of lengths are undefined where the pixel size is unknown.

    Raises MaskError where the model saw no voxel of a mask that is not empty and where mask and image do not belong
    together (`medxai.core.pairing`; of `options` count `strict_grid` and `other_grid`), GeometryError where the domain
    lies on another grid or a metric asked for by name needs an unknown pixel size, and UsageError for a metric that
    needs more than a map and a mask.
    """
    found = evaluate_labels(saliency, {"": mask}, names, options, preset, chance, domain)
    return found[""]


def evaluate_labels(
    saliency: Saliency,
    masks: Mapping[str, Annotation],
    names: Sequence[str] | None = None,
    options: ReadOptions = DEFAULT,
    preset: str = "basic",
    chance: Chance = UNASKED,
    domain: Mask | None = None,
) -> Mapping[str, Evaluation]:
    """`evaluate` against each of several annotations: labels of one map, or readers; on one grid the map is read once.

    Raises what `evaluate` raises.
    """
    refuse_other_kind("map", isinstance(saliency, Saliency), "a Saliency, as load_overlay(path)", saliency)
    for mask in masks.values():
        refuse_other_kind("mask", isinstance(mask, Annotation), "a Mask, as read_mask(path)", mask)
    latest: Reading | None = None
    found = {}
    for label, mask in masks.items():
        if latest is None or latest.geometry != mask.geometry:
            latest = reading_of(saliency, mask, domain)
        else:
            latest = latest.against(mask.data if domain is None else mask.data.masked_fill(~domain.data, 0))
        specs = answerable(names, preset, mask.geometry)
        found[label] = evaluate_reading(latest, saliency, mask, specs, chance, options)
    return found


def evaluate_reading(
    reading: Reading,
    saliency: Saliency,
    mask: Annotation,
    specs: Sequence[MetricSpec],
    chance: Chance = UNASKED,
    options: ReadOptions = DEFAULT,
) -> Evaluation:
    """The scores of a map that was read at the voxels of `mask`; raises MaskError as `evaluate`."""
    pairing = belonging(saliency.source, mask, options)
    share = _share_seen(reading, mask)
    remarks = (*saliency.provenance.notices, *mask.notices, *pairing, *chance.notices, *_remarks(reading, mask, share))
    size = reading.mask_size if mask.data.is_floating_point() else int(reading.mask_size)
    return Evaluation(_scores(specs, Rows(reading, chance), degenerate(saliency)), size, share, remarks)


def answerable(names: Sequence[str] | None, preset: str, grid: Geometry) -> tuple[MetricSpec, ...]:
    """The rows of `chosen`. Raises GeometryError where a named one is a length and the pixel size is unknown."""
    specs = chosen(names, preset)
    if names and any(spec.unit for spec in specs):
        _ = grid.spacing_mm
    return specs


def reading_of(saliency: Saliency, mask: Annotation, domain: Mask | None = None) -> Reading:
    """The map read at the voxels of the mask, within the domain. Raises GeometryError for a domain on another grid."""
    reading = Reading(saliency.on(mask.geometry), mask.data, mask.geometry)
    return reading if domain is None else reading.within(_domain(domain, mask.geometry))


def degenerate(saliency: Saliency) -> str:
    """Why the map means nothing, or ""."""
    return "" if saliency.status.ok else f"degenerate map: {saliency.status.reason}"


def belonging(image: Geometry | None, mask: Annotation, options: ReadOptions = DEFAULT) -> tuple[str, ...]:
    """What there is to notice of a mask beside its image; nothing where the image's grid is unknown."""
    if image is None:
        return ()
    return paired(image, mask.geometry, same_grid=options.strict_grid, other_grid=options.other_grid)


def share_within(mask: Annotation, field: MaskArray) -> float:
    """Which share of the mask lies in `field`, NaN for an empty mask. Raises MaskError where none of it does."""
    voxels = float(mask.data.sum(dtype=torch.float64))
    if not voxels:
        return float("nan")
    within = float(mask.data[field].sum(dtype=torch.float64))
    if not within:
        raise MaskError(
            "The model sees no voxel of this mask.",
            expected="a mask within the image, and within what the recipe left of it",
            found=f"{voxels:.6g} mask voxels, all outside, on {mask.geometry}",
            remedy="Check that image and mask are of the same patient and frame of reference.",
            code="M09",
        )
    return within / voxels


def _scores(specs: Sequence[MetricSpec], rows: Rows, meaningless: str) -> tuple[Score, ...]:
    known = rows.reading.grid.units == "mm"
    asked = tuple(spec for spec in specs if known or not spec.unit)
    answered = {spec.name for spec in asked}
    p_values = {} if meaningless else rows.p_values(asked)
    scores = []
    for spec in specs:
        if spec.name not in answered:
            scores.append(Score(spec.name, float("nan"), {}, "the pixel size is unknown", spec.unit, spec.best))
            continue
        value = Undefined(meaningless) if meaningless else spec.fn(rows.reading)
        facts = {"p": p_values.get(spec.name), "penalty": _penalty(spec, rows.reading, value)}
        score = Score(spec.name, float(value), rows.of(spec), reason(value), spec.unit, spec.best, spec.bound, **facts)
        scores.append(score)
    return tuple(scores)


def _penalty(spec: MetricSpec, reading: Reading, value: float) -> float | None:
    """What the map is charged with; None where it has a value, or there is nothing that it could have found."""
    if spec.penalty is None or not isnan(value) or not bool(reading.mask.any()):
        return None
    charged = float(spec.penalty(reading))
    return None if isnan(charged) else charged


def _domain(domain: Mask, grid: Geometry) -> MaskArray:
    if not domain.geometry.same(grid):
        raise GeometryError("Domain and annotation are on one grid.", expected=f"{grid}", found=f"{domain.geometry}")
    return domain.data


def _share_seen(reading: Reading, mask: Annotation) -> float:
    within = type(mask)(reading.mask, mask.geometry)
    return share_within(within, reading.seen)


def _remarks(reading: Reading, mask: Annotation, share: float) -> tuple[str, ...]:
    remarks = []
    outside = 1 - reading.mask_size / max(float(mask.data.sum(dtype=torch.float64)), 1e-12)
    if outside > 0 and bool(mask.data.any()):
        remarks.append(f"M01: {outside:.1%} of the mask lies outside the domain and is not asked for")
    if share < 1:
        remarks.append(f"M01: {1 - share:.1%} of the mask lies outside what the model saw and counts as missed")
    if bool((reading.mask[reading.seen] > 0).all()):
        remarks.append("M04: the mask covers everything that the model saw, so no map can do better than another")
    return tuple(remarks)
