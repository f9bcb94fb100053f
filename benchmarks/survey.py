"""Every method of the catalogue on the same questions, scored through the public functions; refusals say why."""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import inf, isnan, nan
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

import medxai
from medxai import Asking, Case, Mask, MedxaiError, Saliency, catalog
from medxai.attribution.combined import LayersMethod
from medxai.core.protocols import Attributor
from medxai.evaluation import Chance, Score, evaluate_labels
from medxai.evaluation.presets import apart
from medxai.io.write import made_folder, write_json

T = TypeVar("T")
NETWORK = "the network"
Found = Mapping[str, Mapping[str, Score]]
Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Question:
    """One image put to one network, and the regions where an answer should lie.

    Methods of one layer are asked about `layer`, methods that join several about `layers`, or that one.
    """

    asking: Asking
    layer: str
    case: Case
    masks: Mapping[str, Mask]
    layers: tuple[str, ...] = ()


Maker = Callable[[Question], Attributor]


@dataclass(frozen=True)
class Column:
    """A column of a table: the heading, and which region and metric stand below it.

    A metric that asks the network again has the region `NETWORK`.
    """

    head: str
    region: str
    metric: str


@dataclass(frozen=True)
class Row:
    """What one method scored: means by region and metric, and over how many maps; a degenerate map has no score.

    `degenerate` counts those by reason, and `chance` holds the means of maps that know nothing, by name. A method that
    refused has a reason and no score; `seconds` is the median of one map, from image to saliency.
    """

    method: str
    maps: int = 0
    degenerate: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    refused: str = ""
    value: Scores = field(default_factory=dict)
    scored: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    chance: Mapping[str, Scores] = field(default_factory=dict)


def options(about: str, data: Path, out: Path) -> argparse.ArgumentParser:
    """What can be asked of every survey on the command line; `data` and `out` are the folders it takes by default."""
    asked = argparse.ArgumentParser(description=about)
    asked.add_argument("--data", type=Path, default=data, help="folder of the images")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--methods", nargs="*", default=(), help="names as in the table; all by default")
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


def survey(
    questions: Sequence[Question], columns: Sequence[Column], methods: Mapping[str, Maker], seconds: float = inf
) -> Iterator[Row]:
    """One row for each method, with what the columns ask for, as soon as it is known.

    A method that has taken `seconds` is asked no further, and its row says how many maps it made.
    """
    metrics = tuple(dict.fromkeys(column.metric for column in columns))
    for name, made in methods.items():
        try:
            yield _asked(name, made, questions, metrics, seconds)
        except MedxaiError as error:
            yield Row(name, refused=str(error).splitlines()[0])


def named(names: Sequence[str] = ()) -> dict[str, Maker]:
    """Methods of the catalogue with their defaults, at the layers of the question; all of it without names."""
    return {name: partial(_of_catalogue, name) for name in names or tuple(catalog.methods())}


def write(path: Path, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Rows and what else is known of the run, as JSON; a mean over no map is null."""
    write_json(made_folder(path.parent) / path.name, {**facts, "methods": [asdict(row) for row in rows]})


def markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Methods by the last column, best first, then the maps that know nothing.

    A mean over fewer maps than the row has says over how many; below stands why a map was degenerate, or who refused.
    """
    last = columns[-1]
    sign = 1 if catalog.metrics()[last.metric].better == "lower" else -1
    scored = sorted(
        (row for row in rows if row.value), key=lambda row: _rank(sign * row.value[last.region][last.metric])
    )
    lines = [
        f"| method | {' | '.join(column.head for column in columns)} | degenerate | s per map |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for row in scored:
        cells = " | ".join(_cell(row, column) for column in columns)
        lines.append(f"| {row.method} | {cells} | {sum(row.degenerate.values())}/{row.maps} | {row.seconds:.2f} |")
    for row in sorted(scored, key=lambda row: -row.maps)[:1]:
        for name, known in row.chance.items():
            cells = " | ".join(_number(known.get(column.region, {}).get(column.metric)) for column in columns)
            lines.append(f"| {name} map | {cells} | | |")
    lines += [f"\n{row.method}, {n} maps: {reason}" for row in scored for reason, n in row.degenerate.items()]
    lines += [f"\n{row.method} refuses: {row.refused}" for row in rows if row.refused]
    return "\n".join(lines)


def _of_catalogue(name: str, question: Question) -> Attributor:
    method = catalog.method(name, question.layer)
    return replace(method, layers=question.layers or method.layers) if isinstance(method, LayersMethod) else method


def _asked(name: str, made: Maker, questions: Sequence[Question], metrics: Sequence[str], limit: float) -> Row:
    found: list[Found] = []
    degenerate, seconds = Counter[str](), list[float]()
    for question in track(questions, name, transient=True):
        method, asking = made(question), question.asking
        started = time.perf_counter()
        saliency = medxai.explain(asking.model, question.case, method, asking.target, asking.recipe)
        seconds.append(time.perf_counter() - started)
        degenerate.update([] if saliency.status.ok else [saliency.status.reason])
        found.append(_scores(saliency, question, metrics))
        if sum(seconds) > limit:
            break
    rivals = dict.fromkeys(rival for region in found[0].values() for score in region.values() for rival in score.chance)
    return Row(
        method=name,
        maps=len(found),
        degenerate=dict(degenerate),
        seconds=median(seconds),
        value=_each(found, lambda scores: _mean([score.value for score in scores])),
        scored=_each(found, lambda scores: sum(not isnan(score.value) for score in scores)),
        chance={
            rival: _each(found, lambda scores, rival=rival: _mean([score.chance.get(rival, nan) for score in scores]))
            for rival in rivals
        },
    )


def _scores(saliency: Saliency, question: Question, metrics: Sequence[str]) -> Found:
    """Every score by region and metric."""
    told, asked = apart(metrics)
    against = Chance(question.case.image, noise=True)
    regions = evaluate_labels(saliency, question.masks, told, chance=against)
    found = {region: evaluation.scores for region, evaluation in regions.items()}
    if asked:
        found[NETWORK] = medxai.evaluate_model(saliency, question.case.image, question.asking, asked)
    return {region: {score.metric: score for score in scores} for region, scores in found.items()}


def _each(found: Sequence[Found], of: Callable[[Sequence[Score]], T]) -> Mapping[str, Mapping[str, T]]:
    return {
        region: {metric: of([one[region][metric] for one in found]) for metric in found[0][region]}
        for region in found[0]
    }


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not isnan(value)]
    return fmean(known) if known else nan


def _rank(value: float) -> float:
    return inf if isnan(value) else value


def _cell(row: Row, column: Column) -> str:
    scored = row.scored[column.region][column.metric]
    return _number(row.value[column.region][column.metric]) + (f" ({scored})" if scored < row.maps else "")


def _number(value: float | None) -> str:
    return "" if value is None or isnan(value) else f"{value:.3f}"
