"""The command that lists what a path holds, from headers alone."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medxai.cli.names import said
from medxai.cli.options import AsJson
from medxai.cli.reading import with_read_options
from medxai.io.options import DEFAULT, ReadOptions

if TYPE_CHECKING:
    from medxai.io.dicom.inventory import Inventory


@with_read_options
def inspect(
    path: Annotated[Path, typer.Argument(help="DICOM file, or a folder with any files in it.")],
    as_json: AsJson = False,
    options: ReadOptions = DEFAULT,
) -> None:
    """List the DICOM series at PATH: what each is, whether it would be read, and whom it may name; no pixel is read.

    Where the list goes to no terminal, files are named by their numbers.
    """
    from medxai.cli.report import print_json, print_table
    from medxai.io.dicom.inventory import inspect as look

    found = _discreet(look(path, options))
    if as_json:
        print_json(found.as_dict())
        return
    print_table(
        [
            {
                "series": row.key,
                "modality": row.modality,
                "kind": row.kind,
                "description": row.description,
                "files": row.files,
                "voxels": list(row.shape),
                "spacing (mm)": [f"{v:.4g}" for v in row.spacing or ()],
                "notices": ", ".join(row.notices),
                "problem": ", ".join(text[1:4] for text in row.problems),
                "identity": ", ".join(row.identity),
            }
            for row in found.series
        ]
    )
    for row in found.series:
        for text in row.problems:
            typer.echo(f"{row.key}: {text}")
    for line in found.broken:
        typer.echo(f"broken: {line}")
    if found.others:
        typer.echo(f"{found.others} files that are no DICOM")


def _discreet(found: "Inventory") -> "Inventory":
    """The inventory as stdout may show it."""
    lines = [*(text for row in found.series for text in row.problems), *found.broken]
    shown = dict(zip(lines, said("\n".join(lines), sys.stdout.isatty()).split("\n"), strict=False))
    series = tuple(replace(row, problems=tuple(map(shown.__getitem__, row.problems))) for row in found.series)
    return replace(found, series=series, broken=tuple(map(shown.__getitem__, found.broken)))
