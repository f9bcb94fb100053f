"""Chest-film maps against CheXlocalize annotations, film by film, beside maps that know nothing; and the tuning."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, isnan, nan
from pathlib import Path

import numpy as np
import torch

from medxai.errors import GeometryError, InputError
from medxai.io.chexlocalize import Annotations, FilmMap, Points, patient_of, read_film_map
from medxai.metrics import chance, chexlocalize
from medxai.metrics.spec import Undefined
from medxai.shapes import Map, MaskArray

CUTOFFS = tuple(n / 10 for n in range(9))
"""Probabilities among which the authors chose the one at or below which no region is shown."""

_NO_READER = Undefined("no reader's points were given")
_NO_THRESHOLD = Undefined("no threshold for this finding")
_NOT_SHOWN = Undefined("probability at or below the cutoff")


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a map lies on the annotation of a film: whether its maximum hits, and three overlaps.

    `hit` is undefined for a constant map. `iou` is of Otsu's region and `iou_tuned` of the finding's threshold, both
    undefined where map or annotation is empty; `iou_all` is of Otsu's region too, but undefined only where both are.
    """

    hit: float
    iou: float
    iou_tuned: float
    iou_all: float


@dataclass(frozen=True, slots=True)
class FilmScore:
    """One finding on one film: the model's probability, whether it is annotated, the map's alignment and chance.

    `hit_published` counts the first pixel of a constant map. `chance` is the alignment of a `uniform` map, a point
    drawn at random and the whole film as region, and of a Gaussian in the `centre`. `reader` is a reader's hit.
    """

    film: str
    finding: str
    probability: float
    annotated: bool
    found: Alignment
    hit_published: float
    chance: Mapping[str, Alignment] = field(default_factory=dict)
    reader: float = _NO_READER


@dataclass(frozen=True, slots=True)
class FilmScores:
    """The scores of the annotated films, and the films that have maps but no annotation."""

    scores: tuple[FilmScore, ...]
    left_out: frozenset[str]


def score_films(
    maps: Iterable[Path],
    truth: Annotations,
    thresholds: Mapping[str, float] = chexlocalize.THRESHOLDS,
    cutoffs: Mapping[str, float] | None = None,
    points: Points | None = None,
) -> FilmScores:
    """Every map of an annotated film, read one after the other; other films have no truth and are left out, named.

    `thresholds` are those tuned by the authors unless others are given; where the probability is not above the
    finding's value in `cutoffs` there is no region, of map and chance alike. `points` are where a reader saw the
    findings. Raises InputError for a map that cannot be read, for a map twice, and where no film is annotated, and
    GeometryError for a map of a film of another size than the annotated one.
    """
    found, left_out = [], set[str]()
    prior = lru_cache(maxsize=1)(_centre)  # the maps of a film follow each other
    for one, values, mask in _annotated(maps, truth, left_out):
        shown = one.probability > (cutoffs or {}).get(one.finding, -inf)
        threshold = thresholds.get(one.finding)
        whole, (middle, region) = torch.ones_like(mask), prior(one.shape)
        annotated = int(mask.count_nonzero())
        share = annotated / mask.numel() if annotated else Undefined("empty mask")
        own = chexlocalize.hit(values, mask), chexlocalize.otsu_region(values), _above(values, threshold)
        centre = chexlocalize.hit(middle, mask), region, _above(middle, threshold)
        said = _NO_READER if points is None else chexlocalize.human_hit(points.of(one.film, one.finding), mask)
        found.append(
            FilmScore(
                one.film,
                one.finding,
                one.probability,
                annotated > 0,
                _aligned(*own, mask, shown),
                chexlocalize.hit(values, mask, published=True),
                {"uniform": _aligned(share, whole, whole, mask, shown), "centre": _aligned(*centre, mask, shown)},
                said,
            )
        )
    return FilmScores(tuple(found), frozenset(left_out))


@dataclass(frozen=True)
class Tuning:
    """Per finding the threshold and the probability cutoff with the largest mean overlap, and the films they rest on.

    A finding that no film shows, or that no map finds, has no threshold. `left_out` have maps but no annotation.
    """

    thresholds: Mapping[str, float]
    cutoffs: Mapping[str, float]
    films: frozenset[str]
    left_out: frozenset[str] = frozenset()

    def refuse(self, scores: Sequence[FilmScore]) -> None:
        """Raise InputError where patients that are scored were tuned on: their scores would be too high."""
        shared = {patient_of(score.film) for score in scores} & {patient_of(film) for film in self.films}
        if shared:
            raise InputError(
                "Thresholds were tuned on patients that are scored.",
                expected="maps of other patients to tune on",
                found=f"{len(shared)} patients in both",
            )


def tune(maps: Iterable[Path], truth: Annotations) -> Tuning:
    """The thresholds and cutoffs of validation films, chosen as by the authors. Raises what `score_films` raises."""
    scores: dict[str, list[FilmScore]] = {}
    overlaps: dict[str, list[tuple[float, ...]]] = {}
    left_out = set[str]()
    for one, values, mask in _annotated(maps, truth, left_out):
        region = chexlocalize.otsu_region(values)
        overlap = Alignment(nan, nan, nan, chexlocalize.iou(region, mask, found_only=False))
        score = FilmScore(one.film, one.finding, one.probability, bool(mask.any()), overlap, nan)
        scores.setdefault(one.finding, []).append(score)
        overlaps.setdefault(one.finding, []).append(chexlocalize.overlaps(values, mask))
    best = {finding: chexlocalize.best_threshold(rows) for finding, rows in overlaps.items()}
    return Tuning(
        {finding: threshold for finding, threshold in best.items() if not isnan(threshold)},
        {finding: tuned_cutoff(own) for finding, own in scores.items()},
        frozenset(score.film for own in scores.values() for score in own),
        frozenset(left_out),
    )


def _annotated(
    maps: Iterable[Path], truth: Annotations, left_out: set[str]
) -> Iterator[tuple[FilmMap, Map, MaskArray]]:
    """Each map of an annotated film, the map on the film's pixels, and the annotation; `left_out` gains the others."""
    read = set[tuple[str, str]]()
    for path in maps:
        one = read_film_map(path)
        if one.film not in truth:
            left_out.add(one.film)
            continue
        if (one.film, one.finding) in read:
            raise InputError(f"{one.finding} of {one.film} has two maps.", found=f"the second in {path}")
        read.add((one.film, one.finding))
        mask = truth.mask(one.film, one.finding).data
        if one.shape != tuple(mask.shape):
            raise GeometryError(
                f"{path}: the map is of a film of another size than the annotated one.",
                expected=f"{mask.shape[0]} x {mask.shape[1]} pixels, as {truth.path.name} says",
                found=f"cxr_dims of {one.shape[0]} x {one.shape[1]} (rows x columns)",
            )
        yield one, chexlocalize.enlarged(one.values, one.shape), mask
    if not read:
        raise InputError(
            "No map is of an annotated film.",
            expected=f"films of {truth.path.name}",
            found=f"films with a map: {len(left_out)}",
        )


def tuned_cutoff(scores: Sequence[FilmScore], cutoffs: Sequence[float] = CUTOFFS) -> float:
    """The first probability with the largest mean `iou_all` if no region were shown at or below it, one finding.

    The scores must be those without a cutoff.
    """
    means = []
    for cutoff in cutoffs:
        gated = [s.found.iou_all if s.probability > cutoff else (0.0 if s.annotated else float("nan")) for s in scores]
        defined = [value for value in gated if not isnan(value)]
        means.append(sum(defined) / len(defined) if defined else float("-inf"))
    return cutoffs[int(np.argmax(means))]


def _centre(shape: tuple[int, int]) -> tuple[Map, MaskArray]:
    """A centre prior on films of this shape, and its published region."""
    prior = chance.centre(torch.zeros(shape))
    return prior, chexlocalize.otsu_region(prior)


def _above(values: Map, threshold: float | None) -> MaskArray | None:
    return None if threshold is None else chexlocalize.region_above(values, threshold)


def _aligned(hit: float, otsu: MaskArray, tuned: MaskArray | None, mask: MaskArray, shown: bool) -> Alignment:
    everywhere = chexlocalize.iou(otsu & shown, mask, found_only=False)
    return Alignment(hit, _overlap(otsu, mask, shown), _overlap(tuned, mask, shown), everywhere)


def _overlap(region: MaskArray | None, mask: MaskArray, shown: bool) -> float:
    if region is None:
        return _NO_THRESHOLD
    found = chexlocalize.iou(region, mask)
    return found if shown or isnan(found) else _NOT_SHOWN
