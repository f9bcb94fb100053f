"""A table of cases: one row per map, scored alone and summed up by finding and group, with intervals over patients."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import typer

from medxai.cli.evaluate_together import print_together
from medxai.io.options import ReadOptions

if TYPE_CHECKING:
    from medxai.evaluation.cohort import CohortRow, Contrast, Scored
    from medxai.evaluation.prior import Prior

_PATHS = ("saliency", "image", "mask", "domain")
_WORDS = ("label", "finding", "patient", "case", "group")
_MISFIT = "maps of other patients that lie in another plane than this annotation are not in their mean"


@dataclass(frozen=True)
class How:
    """What is asked of every row."""

    names: Sequence[str] | None
    preset: str
    options: ReadOptions
    spacing: str | None
    noise: bool
    places: int
    seed: int

    def score(self, line: "Line", prior: "Prior") -> "Scored":
        """The scores of one row beside other patients' maps; of the full preset, also what all rows are asked.

        Noise and places are drawn anew for each case, and alike for its groups.
        """
        import medxai
        from medxai.cli.checks import read_domain, read_region
        from medxai.evaluation import Chance
        from medxai.evaluation.case import answerable, degenerate, evaluate_reading, reading_of
        from medxai.evaluation.cohort import Scored
        from medxai.evaluation.parts import parts_of

        image = medxai.read_volume(line.paths["image"], options=self.options) if "image" in line.paths else None
        domain = read_domain(line.paths["domain"], self.spacing, self.options) if "domain" in line.paths else None
        mask = read_region(line.paths["mask"], line.label, self.spacing, self.options)
        saliency = medxai.load_overlay(line.paths["saliency"], self.options.nan)
        others = prior.without(line.patient, mask.geometry)
        seed = self.seed + crc32(line.case.encode())
        chance = Chance(image, () if others is None else (others,), self.noise, self.places, seed)
        reading = reading_of(saliency, mask, domain)
        specs = answerable(self.names, self.preset, mask.geometry)
        found = evaluate_reading(reading, saliency, mask, specs, chance, self.options)
        if prior.misfits(line.patient, mask.geometry):
            found = replace(found, notices=(*found.notices, _MISFIT))
        whole = self.preset == "full" and self.names is None
        parts = parts_of(reading, degenerate(saliency)) if whole else None
        return Scored(line.group, line.case, line.patient, found, parts, line.finding)


@dataclass(frozen=True)
class Line:
    """One row of the table; paths lie beside the table unless they are absolute."""

    number: int
    paths: Mapping[str, Path]
    words: Mapping[str, str]

    @property
    def label(self) -> int | None:
        """The value of the finding in a label map."""
        return int(self.words["label"]) if self.words.get("label") else None

    @property
    def finding(self) -> str:
        """The finding where one is named, else the label: what is scored apart; "" where the table tells neither."""
        return self.words.get("finding") or ("" if self.label is None else f"label {self.label}")

    @property
    def case(self) -> str:
        """What is paired between groups: the case where it is named, else a number for the annotation and its label."""
        return self.words["case"]

    @property
    def patient(self) -> str:
        """The patient where one is named, else the case is its own."""
        return self.words.get("patient") or self.case

    @property
    def group(self) -> str:
        """The method or checkpoint, "" where the table compares none."""
        return self.words.get("group", "")

    @property
    def target(self) -> tuple[str, str]:
        """The group and the finding: maps of one target show where such maps point whoever the patient is."""
        return self.group, self.finding


def read_lines(path: Path, needed: Sequence[str]) -> tuple[Line, ...]:
    """The rows of a CSV file.

    Raises InputError for a column that is missing, unknown or named twice, for an empty cell of one that is needed, for
    a label that is no number and for a file that is not there. A case with two patients is refused too: its scores
    could not be drawn by patient.
    """
    from medxai.errors import InputError

    optional = ", ".join(c for c in (*_PATHS, *_WORDS) if c not in needed)
    known = f"{', '.join(needed)} and any of {optional}, each once"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, strict=True)
            columns, rows = table.fieldnames or (), list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no table.", expected="a CSV file in UTF-8", found=f"{error}") from error
    if not set(needed) <= set(columns) <= {*_PATHS, *_WORDS} or len(set(columns)) < len(columns):
        raise InputError("The table has other columns.", expected=known, found=", ".join(columns) or "none")
    lines = []
    patients: dict[str, str] = {}
    unnamed: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if any(not row[column] for column in needed) or None in row:
            raise InputError(f"Row {number} of the table cannot be read.", expected=known, found=f"{len(row)} cells")
        if not (row.get("label") or "0").isdecimal():
            raise InputError(f"Row {number}, column label, is no number.", found=repr(row["label"]))
        cells = {column: cell for column, cell in row.items() if cell}
        places = {column: path.parent / cells[column] for column in _PATHS if column in cells}
        words = {column: cells[column] for column in _WORDS if column in cells}
        drawn = f"{places.get('mask', number)} {words.get('label', '')}"
        words.setdefault("case", unnamed.setdefault(drawn, f"case {len(unnamed) + 1}"))
        line = Line(number, places, words)
        if patients.setdefault(line.case, line.patient) != line.patient:
            remedy = "" if "case" in cells else "Name the cases of an annotation that patients share in a column case."
            raise InputError("A case has one patient.", found=f"row {number} with another", remedy=remedy)
        lines.append(line)
    if not lines:
        raise InputError("The table has no row.", expected=known)
    _refuse_missing(lines)
    return tuple(lines)


def _refuse_missing(lines: Sequence[Line]) -> None:
    from medxai.errors import InputError

    for line in lines:
        for column, place in line.paths.items():
            if not place.exists():
                raise InputError(f"Row {line.number}, column {column}: no such file or folder, {place}.")


def score_table(path: Path, how: How, as_json: bool) -> None:
    """Score every row and print the table of the cohort."""
    from medxai.cli.progress import steps
    from medxai.cli.report import print_json

    lines = read_lines(path, ("saliency", "mask"))
    with steps(len(lines) + 1) as step:
        step("other patients")
        priors = {target: _prior(lines, target, how.options.nan) for target in {line.target for line in lines}}
        from medxai.evaluation.cohort import by_group, contrasts
        from medxai.evaluation.together import together

        cases = []
        for number, line in enumerate(lines, 1):
            step(f"case {number}")
            cases.append(how.score(line, priors[line.target]))
        rows, pairs, pooled = by_group(cases, how.seed), contrasts(cases, how.seed), together(cases, how.seed)
    if as_json:
        whole: dict[str, Any] = {"metrics": [row.as_dict() for row in rows], "cases": [_case(one) for one in cases]}
        whole |= {"together": [row.as_dict() for row in pooled]} if pooled else {}
        print_json(whole | ({"contrasts": [pair.as_dict() for pair in pairs]} if pairs else {}))
        return
    _print(rows, pairs)
    print_together(pooled)
    for notice in dict.fromkeys(notice for one in cases for notice in one.evaluation.notices):
        count = sum(notice in one.evaluation.notices for one in cases)
        typer.echo(f"note: {notice} ({count} of {len(cases)} maps)")


def _prior(lines: Sequence[Line], target: tuple[str, str], nan: float | None) -> "Prior":
    import medxai
    from medxai.evaluation.prior import prior

    own = [line for line in lines if line.target == target]
    return prior((line.patient, medxai.load_overlay(line.paths["saliency"], nan)) for line in own)


def _case(one: "Scored") -> dict[str, Any]:
    return {
        "case": one.case,
        "finding": one.finding,
        "patient": one.patient,
        "group": one.group,
        **one.evaluation.as_dict(),
    }


def _print(rows: "Sequence[CohortRow]", pairs: "Sequence[Contrast]") -> None:
    from medxai.cli.report import p_value, print_table, reasons, said

    chance = dict.fromkeys(name for row in rows for name in row.chance)
    several = len({row.finding for row in rows}) > 1
    print_table(
        [
            {
                "metric": row.metric,
                "finding": row.finding * several,
                "group": row.group,
                "mean [95 %] by patient": str(row.mean),
                "unit": row.unit,
                **{f"chance: {name}": said(row.chance[name]) if name in row.chance else "" for name in chance},
                "p <= 0.05": f"{row.low_p} of {row.with_p} cases" if row.with_p else "",
                "undefined": reasons(row.undefined),
                "with penalties": said(row.charged) if row.undefined and row.charged == row.charged else "",
            }
            for row in rows
        ]
    )
    if pairs:
        over = "the findings of each metric" if several else "all of these"
        typer.echo(f"paired by case, over patients; p by Wilcoxon, Holm over {over}:")
        print_table(
            [
                {
                    "metric": pair.metric,
                    "finding": pair.finding * several,
                    "first": pair.first,
                    "second": pair.second,
                    "difference": said(pair.found.difference),
                    "patients": pair.found.patients,
                    "p": p_value(pair.found.wilcoxon),
                    "p (Holm)": p_value(pair.p_holm),
                    "d_z": said(pair.found.d_z),
                    "reason": pair.found.reason,
                }
                for pair in pairs
            ]
        )
