"""A folder of chest-film maps against CheXlocalize annotations: its table as published, and by patient."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from medxai.errors import InputError
from medxai.io.chexlocalize import Annotations, FilmMap, Points, patient_of, read_film_map
from medxai.metrics import chexlocalize
from medxai.metrics.spec import Undefined, reason
from medxai.shapes import Map, MaskArray
from medxai.statistics.interval import Interval, film_decrease, film_interval, interval
from medxai.statistics.sample import FEWEST, Sample, Summary, sample, summary

CUTOFFS = tuple(n / 10 for n in range(9))
"""Probabilities among which the authors chose the one at or below which no region is shown."""

_NO_READER = Undefined("no reader's points were given")


@dataclass(frozen=True, slots=True)
class FilmScore:
    """One finding on one film: the model's probability, whether it is annotated, the hit, and three overlaps.

    `iou` is of Otsu's region and `iou_tuned` of the finding's threshold, both undefined where map or annotation is
    empty; `iou_all` is of Otsu's region too, but undefined only where both are. `reader` is a reader's hit.
    """

    film: str
    finding: str
    probability: float
    annotated: bool
    hit: float
    iou: float
    iou_tuned: float
    iou_all: float
    reader: float = _NO_READER


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding over all films: hit rate and mean overlap, each by patient and as published.

    `reader` is the hit rate of a reader's points and `behind` the part of it that the map falls short of, as published.
    """

    finding: str
    films: int
    annotated: int
    hit: Interval
    hit_published: Interval
    iou: Interval
    iou_published: Interval
    iou_tuned: Interval
    undefined: Summary
    reader: Interval
    behind: Interval

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        columns = ["hit", "hit_published", "iou", "iou_published", "iou_tuned"]
        columns += ["reader", "behind"] if self.reader.cases else []
        return {
            "finding": self.finding,
            "films": self.films,
            "annotated": self.annotated,
            **{name: getattr(self, name).as_dict() for name in columns},
            "iou_undefined": dict(self.undefined.undefined),
        }


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
    finding's value in `cutoffs` there is no region. `points` are where a reader saw the findings. Raises InputError for
    a map twice, and where no film is annotated.
    """
    found, left_out = [], set[str]()
    for one, values, mask in _annotated(maps, truth, left_out):
        shown = one.probability > (cutoffs or {}).get(one.finding, -inf)
        region = chexlocalize.otsu_region(values) & shown
        tuned = chexlocalize.region_above(values, thresholds.get(one.finding, nan)) & shown
        said = _NO_READER if points is None else chexlocalize.human_hit(points.of(one.film, one.finding), mask)
        found.append(
            FilmScore(
                one.film,
                one.finding,
                one.probability,
                bool(mask.any()),
                chexlocalize.hit(values, mask),
                chexlocalize.iou(region, mask),
                chexlocalize.iou(tuned, mask),
                chexlocalize.iou(region, mask, found_only=False),
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
        overlap = chexlocalize.iou(region, mask, found_only=False)
        score = FilmScore(one.film, one.finding, one.probability, bool(mask.any()), nan, nan, nan, overlap)
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
        yield one, chexlocalize.enlarged(one.values, one.shape), truth.mask(one.film, one.finding).data
    if not read:
        raise InputError(
            "No map is of an annotated film.",
            expected=f"films of {truth.path.name}",
            found=f"films with a map: {len(left_out)}",
        )


def film_table(scores: Sequence[FilmScore], seed: int = 0) -> tuple[FindingRow, ...]:
    """One row per finding, in the order of their names."""
    rows = []
    for finding in sorted({score.finding for score in scores}):
        own = [score for score in scores if score.finding == finding]
        hits, overlaps, tuned, reader = (_sample(own, column) for column in ("hit", "iou", "iou_tuned", "reader"))
        rows.append(
            FindingRow(
                finding,
                films=len(own),
                annotated=sum(score.annotated for score in own),
                hit=interval(hits, seed=seed),
                hit_published=film_interval(hits, seed=seed),
                iou=interval(overlaps, seed=seed),
                iou_published=film_interval(overlaps, seed=seed),
                iou_tuned=interval(tuned, seed=seed),
                undefined=summary(overlaps),
                reader=interval(reader, seed=seed),
                behind=film_decrease(reader, hits, seed=seed),
            )
        )
    return tuple(rows)


def mean_over_findings(rows: Sequence[FindingRow]) -> tuple[float, float, tuple[str, ...]]:
    """Mean hit rate and mean overlap of the findings with at least 10 annotated films, and the findings left out."""
    kept = [row for row in rows if row.annotated >= FEWEST]
    left = tuple(row.finding for row in rows if row.annotated < FEWEST)
    if not kept:
        return float("nan"), float("nan"), left
    return float(np.mean([row.hit.mean for row in kept])), float(np.mean([row.iou.mean for row in kept])), left


def tuned_cutoff(scores: Sequence[FilmScore], cutoffs: Sequence[float] = CUTOFFS) -> float:
    """The first probability with the largest mean `iou_all` if no region were shown at or below it, one finding.

    The scores must be those without a cutoff.
    """
    means = []
    for cutoff in cutoffs:
        gated = [s.iou_all if s.probability > cutoff else (0.0 if s.annotated else float("nan")) for s in scores]
        defined = [value for value in gated if not isnan(value)]
        means.append(sum(defined) / len(defined) if defined else float("-inf"))
    return cutoffs[int(np.argmax(means))]


def _sample(scores: Sequence[FilmScore], column: str) -> Sample:
    values = [getattr(score, column) for score in scores]
    return sample(values, [patient_of(score.film) for score in scores], [reason(value) for value in values])
