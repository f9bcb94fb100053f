"""How the answers for all cases of a table together look in a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from medxai.evaluation.together import Together


def print_together(rows: "Sequence[Together]") -> None:
    """One line per finding and group, and one for each size of lesion."""
    from medxai.cli.report import print_table, reasons, said
    from medxai.evaluation.together import NUMBERS

    if not rows:
        return
    several = len({row.finding for row in rows}) > 1
    typer.echo(f"of all cases{' of a finding' * several} together:")
    print_table(
        [
            {
                "finding": row.finding * several,
                "group": row.group,
                "cases": str(row.cases),
                "undefined": reasons(row.undefined),
                "best F1*": f"{said(row.best_f1.f1)} at {said(row.best_f1.fraction)} of the maximum",
                **{f"{name}{'*' * name.startswith('box')}": said(getattr(row, name)) for name in NUMBERS},
                "sensitivity at 1/8 to 8 false peaks": _found(row),
                "IoU, threshold of other patients": str(row.tuned_iou),
                "Dice, threshold of other patients": str(row.tuned_dice),
            }
            for row in rows
        ]
    )
    typer.echo("* at the threshold best for these cases: an upper bound")
    sizes = [
        {
            "finding": row.finding * several,
            "group": row.group,
            "lesions of mL (cm2 of a film)": f"{stratum.smallest:g} to {stratum.largest:g}",
            "lesions": str(stratum.lesions),
            "recall": said(stratum.recall),
            "mean part covered": said(stratum.covered),
        }
        for row in rows
        for stratum in row.strata
        if stratum.lesions
    ]
    if sizes:
        print_table(sizes)


def _found(row: "Together") -> str:
    found = row.sensitivities.values()
    return "" if row.froc != row.froc else " ".join(f"{value:.2f}" for value in found)
