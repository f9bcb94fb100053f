"""The table of CheXlocalize: each finding over all films, by patient and as published, beside chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from medxai.evaluation.films import FilmScore
from medxai.evaluation.score import number
from medxai.io.chexlocalize import patient_of
from medxai.metrics.spec import reason
from medxai.statistics.interval import Interval, film_decrease, film_interval, interval
from medxai.statistics.sample import FEWEST, Sample, sample, summary

COLUMNS: Mapping[str, str] = {
    "hit": "hit rate",
    "iou": "mIoU (Otsu)",
    "iou_all": "mIoU (Otsu), all films",
    "iou_tuned": "mIoU (tuned thresholds)",
}
"""What is stated beside chance: the field of `Alignment`, and its name in words."""


@dataclass(frozen=True, slots=True)
class Column:
    """One score of one finding: the mean with its interval over patients, why other films have none, and chance.

    Each chance is a mean over the films that have the score, no other.
    """

    mean: Interval
    undefined: Mapping[str, int]
    chance: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        known = {name: number(value) for name, value in self.chance.items()}
        return {**self.mean.as_dict(), "undefined": dict(self.undefined), "chance": known}


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding over all films: the `COLUMNS`, and the hit rate and the mean overlap as published.

    `iou` leaves out the films where annotation or region is empty, as where the cutoff shows none; `iou_all` counts
    each film that has either. `reader` is the hit rate of a reader's points and `behind` the part of it that the map
    falls short of, as published.
    """

    finding: str
    films: int
    annotated: int
    columns: Mapping[str, Column]
    hit_published: Interval
    iou_published: Interval
    reader: Interval
    behind: Interval

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        published = {"hit_published": self.hit_published, "iou_published": self.iou_published}
        beside = {"reader": self.reader, "behind": self.behind} if self.reader.cases else {}
        return {
            "finding": self.finding,
            "films": self.films,
            "annotated": self.annotated,
            **{name: column.as_dict() for name, column in self.columns.items()},
            **{name: stated.as_dict() for name, stated in (published | beside).items()},
        }


@dataclass(frozen=True, slots=True)
class Overall:
    """Means over findings of the means of the `COLUMNS` and of their chance; `left_out` have too few films."""

    means: Mapping[str, float]
    chance: Mapping[str, Mapping[str, float]]
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        chance = {name: {of: number(value) for of, value in row.items()} for name, row in self.chance.items()}
        means = {name: number(value) for name, value in self.means.items()}
        return {**means, "chance": chance, "left_out": list(self.left_out)}


def film_table(scores: Sequence[FilmScore], seed: int = 0) -> tuple[FindingRow, ...]:
    """One row per finding, in the order of their names."""
    rows = []
    for finding in sorted({score.finding for score in scores}):
        own = [score for score in scores if score.finding == finding]
        hits = _sample(own, [score.hit_published for score in own])
        reader = _sample(own, [score.reader for score in own])
        rows.append(
            FindingRow(
                finding,
                films=len(own),
                annotated=sum(score.annotated for score in own),
                columns={name: _column(own, name, seed) for name in COLUMNS},
                hit_published=film_interval(hits, seed=seed),
                iou_published=film_interval(_sample(own, [score.found.iou for score in own]), seed=seed),
                reader=interval(reader, seed=seed),
                behind=film_decrease(reader, hits, seed=seed),
            )
        )
    return tuple(rows)


def mean_over_findings(rows: Sequence[FindingRow]) -> Overall:
    """The mean over the findings with at least 10 annotated films, undefined where one of them is."""
    kept = [row.columns for row in rows if row.annotated >= FEWEST]
    left = tuple(row.finding for row in rows if row.annotated < FEWEST)
    if not kept:
        return Overall(dict.fromkeys(COLUMNS, nan), {}, left)
    means = {name: float(np.mean([columns[name].mean.mean for columns in kept])) for name in COLUMNS}
    chance = {
        name: {of: float(np.mean([columns[name].chance[of] for columns in kept])) for of in kept[0][name].chance}
        for name in COLUMNS
    }
    return Overall(means, chance, left)


def _column(scores: Sequence[FilmScore], name: str, seed: int) -> Column:
    drawn = _sample(scores, [getattr(score.found, name) for score in scores])
    known = [score for score, defined in zip(scores, drawn.defined, strict=True) if defined]
    chances = dict.fromkeys(of for score in scores for of in score.chance)
    means = {of: summary(sample([getattr(score.chance[of], name) for score in known])).mean for of in chances}
    return Column(interval(drawn, seed=seed), summary(drawn).undefined, means)


def _sample(scores: Sequence[FilmScore], values: Sequence[float]) -> Sample:
    return sample(values, [patient_of(score.film) for score in scores], [reason(value) for value in values])
