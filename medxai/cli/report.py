"""How results look in a terminal."""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import typer

from medxai.core.saliency import Saliency
from medxai.evaluation import Evaluation, Score


def show_saliency(saliency: Saliency, out: Path) -> None:
    """What was explained, whether the map says anything, and where it lies."""
    p = saliency.provenance
    status = typer.style(str(saliency.status), fg=None if saliency.status.ok else "red")
    typer.echo(f"{p.method} of {p.target} at layer {p.layer!r}: score {p.score:.4g}, {status}, {p.seconds:.2f} s")
    for notice in p.notices:
        typer.echo(f"note: {notice}")
    typer.echo(f"open: {out / 'overlay.png'}, or {out / 'saliency.nii.gz'} over the scan")


def show_evaluation(evaluation: Evaluation, said: Sequence[str] = ()) -> None:
    """The scores beside their chance rows, and the notices that were not `said` before."""
    show_scores(evaluation.scores)
    for notice in evaluation.notices:
        if notice not in said:
            typer.echo(f"note: {notice}")


def show_scores(scores: Sequence[Score]) -> None:
    """Scores as a table, and what their marks mean."""
    names = dict.fromkeys(name for score in scores for name in score.chance)
    print_table([_row(score, names) for score in scores])
    if any(score.bound for score in scores):
        typer.echo("* chosen in view of the mask: an upper bound, not a score of the map alone")


def _row(score: Score, chance: Iterable[str]) -> dict[str, str]:
    known = {name: said(score.chance[name]) if name in score.chance else "" for name in chance}
    return {
        "metric": f"{score.metric}{'*' if score.bound else ''}",
        "value": said(score.value),
        "unit": score.unit,
        **{f"chance: {name}": value for name, value in known.items()},
        "p": "" if score.p is None else p_value(score.p),
        "reason": score.reason if score.penalty is None else f"{score.reason}; penalty {said(score.penalty)}",
    }


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of equal keys as a table; a column that is empty throughout is left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [key for key in rows[0] if any(row[key] not in ("", None, False) for row in rows)] if rows else []
    table = Table()
    for number, key in enumerate(shown):
        table.add_column(key, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*[Text(_cell(row[key])) for key in shown])
    console = Console()
    (console if console.is_terminal else Console(width=1000)).print(table)


def print_json(value: Any) -> None:
    """JSON on stdout and nothing else."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    if isinstance(value, list):
        return " x ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else str(value)


def said(value: float, form: str = ".3f") -> str:
    """A number, of three decimals unless told otherwise, or that it is undefined."""
    return "undefined" if isnan(value) else format(value, form)


def in_decimals(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose fractions are `said`."""
    return {key: said(value) if isinstance(value, float) else value for key, value in row.items()}


def p_value(value: float) -> str:
    """A probability of three decimals, which is never zero."""
    return "< 0.001" if value < 0.0005 else said(value)


def reasons(undefined: Mapping[str, int]) -> str:
    """How many are undefined, and why."""
    return ", ".join(f"{count} {why}" for why, count in undefined.items())
