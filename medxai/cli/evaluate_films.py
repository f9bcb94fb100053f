"""The table of CheXlocalize: a folder of map files against one annotation file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from medxai.evaluation.film_table import FindingRow, Overall
    from medxai.evaluation.films import Tuning

_PANEL = "Folder of chest-film maps"
TuneMaps = Annotated[
    Path | None,
    typer.Option(
        "--tune-maps", help="Maps of other patients to tune thresholds and cutoffs on.", rich_help_panel=_PANEL
    ),
]
TuneTruth = Annotated[
    Path | None, typer.Option("--tune-truth", help="The annotations of those films.", rich_help_panel=_PANEL)
]
ReaderPoints = Annotated[
    Path | None,
    typer.Option("--points", help="A reader's points, JSON, as the human benchmark.", rich_help_panel=_PANEL),
]


@dataclass(frozen=True)
class Films:
    """The maps to score, their annotations, those to tune on, and a reader's points."""

    maps: Path
    truth: Path
    tune_maps: Path | None = None
    tune_truth: Path | None = None
    points: Path | None = None


def score_folder(asked: Films, seed: int, as_json: bool) -> None:
    """Print the table. Raises UsageError for half of what tuning takes."""
    from medxai.cli.progress import steps
    from medxai.cli.report import print_json
    from medxai.errors import UsageError

    if (asked.tune_maps is None) != (asked.tune_truth is None):
        raise UsageError("Thresholds cannot be tuned.", expected="--tune-maps with --tune-truth")
    with steps(3) as step:
        step("loading")
        from medxai.evaluation.film_table import film_table, mean_over_findings
        from medxai.evaluation.films import score_films
        from medxai.io.chexlocalize import read_annotations, read_points
        from medxai.metrics.chexlocalize import THRESHOLDS

        truth = read_annotations(asked.truth)
        points = None if asked.points is None else read_points(asked.points)
        step("tuning")
        tuning = _tuned(asked)
        step("scoring")
        thresholds, cutoffs = (THRESHOLDS, None) if tuning is None else (tuning.thresholds, tuning.cutoffs)
        found = score_films(_files(asked.maps), truth, thresholds, cutoffs, points)
        if tuning is not None:
            tuning.refuse(found.scores)
        rows = film_table(found.scores, seed)
    overall = mean_over_findings(rows)
    if as_json:
        table = {"findings": [row.as_dict() for row in rows], "mean_over_findings": overall.as_dict()}
        print_json(table | {"films_without_annotation": len(found.left_out)} | _chosen(tuning))
        return
    _print(rows, overall, tuning)
    for left_out, use in ((found.left_out, "scored"), (frozenset() if tuning is None else tuning.left_out, "tuned on")):
        if left_out:
            typer.echo(f"note: films with maps but no annotation, not {use}: {len(left_out)}")
    if overall.left_out:
        typer.echo(f"note: left out of the mean, too few annotated films: {', '.join(overall.left_out)}")


def _tuned(asked: Films) -> "Tuning | None":
    from medxai.evaluation.films import tune
    from medxai.io.chexlocalize import read_annotations

    if asked.tune_maps is None or asked.tune_truth is None:
        return None
    return tune(_files(asked.tune_maps), read_annotations(asked.tune_truth))


def _files(folder: Path) -> list[Path]:
    return sorted(path for ending in ("_map.npz", "_map.pkl") for path in folder.rglob(f"*{ending}"))


def _chosen(tuning: "Tuning | None") -> dict[str, Any]:
    if tuning is None:
        return {}
    chosen = {"thresholds": dict(tuning.thresholds), "cutoffs": dict(tuning.cutoffs), "films": len(tuning.films)}
    return {"tuned": chosen | {"films_without_annotation": len(tuning.left_out)}}


def _print(rows: "tuple[FindingRow, ...]", overall: "Overall", tuning: "Tuning | None") -> None:
    from medxai.cli.report import print_table, said
    from medxai.evaluation.film_table import COLUMNS

    lines = [line for row in rows for line in _lines(row, tuning)]
    if len(overall.left_out) < len(rows):
        blank = dict.fromkeys(lines[0], "") | {"finding": "mean over findings"}
        for name, title in COLUMNS.items():
            lines.append(blank | {"score": title, "mean": said(overall.means[name])} | _beside(overall.chance[name]))
    print_table(lines)


def _lines(row: "FindingRow", tuning: "Tuning | None") -> list[dict[str, Any]]:
    """A line per score of a finding and, where a reader's points were given, two of the reader."""
    from medxai.evaluation.film_table import COLUMNS

    finding = {"finding": row.finding, "films": row.films, "annotated": row.annotated}
    lines = [
        finding
        | {"score": title, "mean": str(row.columns[name].mean)}
        | _beside(row.columns[name].chance)
        | {
            "undefined": row.columns[name].undefined or "",
            "threshold": "" if tuning is None else tuning.thresholds.get(row.finding, "none"),
            "shown above": "" if tuning is None else tuning.cutoffs.get(row.finding, "none"),
        }
        for name, title in COLUMNS.items()
    ]
    blank = dict.fromkeys(lines[0], "") | finding
    beside = {"reader's hit rate": row.reader, "behind the reader": row.behind} if row.reader.cases else {}
    return lines + [blank | {"score": title, "mean": str(stated)} for title, stated in beside.items()]


def _beside(chance: Mapping[str, float]) -> dict[str, str]:
    from medxai.cli.report import said

    return {f"chance: {name}": said(value) for name, value in chance.items()}
