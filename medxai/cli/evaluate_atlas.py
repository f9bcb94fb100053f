"""The table of structures: where the attribution goes."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medxai.metrics.atlas import Structure

Atlas = Annotated[
    Path | None,
    typer.Option("--atlas", help="Label map of the same patient (organs, lobes): the share of each label, and per mL."),
]


def print_structures(rows: "Sequence[Structure]", notices: Sequence[str]) -> None:
    """One line per structure, the one with the largest share first; 0 is what is in none; then the notices."""
    from medxai.cli.report import print_table, said

    if not rows:
        return
    typer.echo("by structure of the atlas:")
    sized = not isnan(rows[0].size)
    print_table(
        [
            {
                "structure": row.name,
                "share of positive": said(row.share),
                "share of absolute": said(row.absolute_share),
                "lift": said(row.lift),
                "voxels": str(row.voxels),
                "mL (cm2 of a film)": said(row.size) if sized else "",
                "share per mL (cm2)": said(row.per_size, ".3g") if sized else "",
            }
            for row in sorted(rows, key=lambda row: 0 if isnan(row.share) else -row.share)
        ]
    )
    for notice in notices:
        typer.echo(f"note: {notice}")
