"""The table of CheXlocalize: a folder of map files against one annotation file."""

from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from medxai.evaluation.films import FindingRow, Tuning

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
        from medxai.evaluation.films import film_table, mean_over_findings, score_films
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
    hit, iou, left = mean_over_findings(rows)
    if as_json:
        overall = {"hit": None if isnan(hit) else hit, "iou": None if isnan(iou) else iou, "left_out": list(left)}
        table = {"findings": [row.as_dict() for row in rows], "mean_over_findings": overall}
        print_json(table | {"films_without_annotation": len(found.left_out)} | _chosen(tuning))
        return
    _print(rows, tuning)
    for left_out, use in ((found.left_out, "scored"), (frozenset() if tuning is None else tuning.left_out, "tuned on")):
        if left_out:
            typer.echo(f"note: films with maps but no annotation, not {use}: {len(left_out)}")
    if not isnan(hit):
        typer.echo(f"mean over the findings with 10 or more annotated films: hit rate {hit:.3f}, mIoU {iou:.3f}")
    if left:
        typer.echo(f"note: left out of the mean, too few annotated films: {', '.join(left)}")


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


def _print(rows: "tuple[FindingRow, ...]", tuning: "Tuning | None") -> None:
    from medxai.cli.report import print_table

    print_table(
        [
            {
                "finding": row.finding,
                "films": row.films,
                "annotated": row.annotated,
                "hit rate": str(row.hit),
                "mIoU (Otsu)": str(row.iou),
                "mIoU (tuned thresholds)": str(row.iou_tuned),
                "threshold": "" if tuning is None else tuning.thresholds.get(row.finding, "none"),
                "shown above": "" if tuning is None else tuning.cutoffs.get(row.finding, "none"),
                "reader's hit rate": str(row.reader) if row.reader.cases else "",
                "behind the reader": str(row.behind) if row.reader.cases else "",
            }
            for row in rows
        ]
    )
