"""Every method of the catalogue on the same questions, scored through the public functions; refusals say why."""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf, isnan, nan
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.progress import track
from torch import nn

import medxai
from medxai import Case, Mask, MedxaiError, Recipe, catalog
from medxai.core.target import Target
from medxai.evaluation import Evaluation, Score, evaluate_labels

METRICS = ("pointing_game", "mass_in_mask", "iou_at_mask_size")
Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Question:
    """One image put to one network, and the regions where an answer should lie."""

    model: nn.Module
    layer: str
    case: Case
    recipe: Recipe
    target: Target
    masks: Mapping[str, Mask]


@dataclass(frozen=True)
class Column:
    """A column of a table: the heading, and which region and metric stand below it."""

    head: str
    region: str
    metric: str


@dataclass(frozen=True)
class Row:
    """What one method scored: means over the maps that were not degenerate, by region and metric.

    A method that refused has a reason and no score; `seconds` is the median of one map, from image to saliency.
    """

    method: str
    maps: int = 0
    degenerate: int = 0
    seconds: float = 0.0
    refused: str = ""
    value: Scores = field(default_factory=dict)
    uniform: Scores = field(default_factory=dict)
    centre: Scores = field(default_factory=dict)


def options(about: str, data: Path, out: Path) -> argparse.ArgumentParser:
    """What can be asked of every survey on the command line; `data` and `out` are the folders it takes by default."""
    asked = argparse.ArgumentParser(description=about)
    asked.add_argument("--data", type=Path, default=data, help="folder of the images")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--methods", nargs="*", default=(), help="names of the catalogue; all of it by default")
    asked.add_argument("--seconds", type=float, default=600, help="after which a method is asked no further")
    asked.add_argument("--out", type=Path, default=out, help="folder for the JSON")
    return asked


def report(rows: Iterable[Row], columns: Sequence[Column], path: Path, facts: Mapping[str, Any]) -> None:
    """Tell of each row and write all so far, as soon as it is known, and print the table in the end."""
    console, started, known = Console(width=150), time.perf_counter(), list[Row]()
    for row in rows:
        known.append(row)
        spent = time.perf_counter() - started
        console.print(f"{row.method}: {row.refused or f'{row.seconds:.2f} s per map'}, {spent:.0f} s so far")
        write(path, known, facts)
    print(markdown(known, columns))


def survey(questions: Sequence[Question], names: Sequence[str] = (), seconds: float = inf) -> Iterator[Row]:
    """One row for each named method, or for all that the catalogue has, as soon as it is known.

    A method that has taken `seconds` is asked no further, and its row says how many maps it made.
    """
    for name in names or tuple(catalog.methods()):
        try:
            yield _asked(name, questions, seconds)
        except MedxaiError as error:
            yield Row(name, refused=str(error).splitlines()[0])


def write(path: Path, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Rows and what else is known of the run, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, "methods": [asdict(row) for row in rows]}, indent=2), "utf-8")


def markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Methods by the last column, best first, then the maps that know nothing, then who refused and why."""
    last = columns[-1]
    scored = sorted((row for row in rows if row.value), key=lambda row: _rank(row.value[last.region][last.metric]))
    lines = [
        f"| method | {' | '.join(column.head for column in columns)} | degenerate | s per map |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for row in scored:
        lines.append(
            f"| {row.method} | {_cells(row.value, columns)} | {row.degenerate}/{row.maps} | {row.seconds:.2f} |"
        )
    for row in sorted(scored, key=lambda row: -row.maps)[:1]:
        lines.append(f"| centre map | {_cells(row.centre, columns)} | | |")
        lines.append(f"| uniform map | {_cells(row.uniform, columns)} | | |")
    lines += [f"\n{row.method} refuses: {row.refused}" for row in rows if row.refused]
    return "\n".join(lines)


def _asked(name: str, questions: Sequence[Question], limit: float) -> Row:
    found: list[Mapping[str, Evaluation]] = []
    degenerate, seconds = 0, list[float]()
    for question in track(questions, name, transient=True):
        method = catalog.method(name, question.layer)
        started = time.perf_counter()
        saliency = medxai.explain(question.model, question.case, method, question.target, question.recipe)
        seconds.append(time.perf_counter() - started)
        degenerate += not saliency.status.ok
        found.append(evaluate_labels(saliency, question.masks, METRICS))
        if sum(seconds) > limit:
            break
    return Row(
        method=name,
        maps=len(found),
        degenerate=degenerate,
        seconds=median(seconds),
        value=_means(found, lambda score: score.value),
        uniform=_means(found, lambda score: score.chance["uniform"]),
        centre=_means(found, lambda score: score.chance["centre"]),
    )


def _means(found: Sequence[Mapping[str, Evaluation]], read: Callable[[Score], float]) -> Scores:
    return {label: {name: _mean([read(one[label][name]) for one in found]) for name in METRICS} for label in found[0]}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not isnan(value)]
    return fmean(known) if known else nan


def _rank(value: float) -> float:
    return inf if isnan(value) else -value


def _cells(scores: Scores, columns: Sequence[Column]) -> str:
    return " | ".join(f"{scores[column.region][column.metric]:.3f}" for column in columns)
