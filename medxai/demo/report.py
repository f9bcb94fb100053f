"""What the demo says at its end: its tables, and the command that repeats a row by hand."""

import shlex
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from medxai.demo.files import image_of, lesion_of
from medxai.demo.model import LESION
from medxai.demo.two_lesions import Marks
from medxai.evaluation import Evaluation

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = ("pointing_game", "mass_in_mask", "iou_at_mask_size")
TWO = """\
Here the same weights judge a scan by its most suspicious patch, so that either lesion is enough. IBA asks what is
enough to keep the score, and may leave one out: "score left" is then what the other still says. Inverse IBA asks what
has to go before nothing is left, and has to cover both. Grad-CAM maps, before a linear head, what each place would say
by itself, whether the answer rests on it or not."""


def command(out: Path, name: str, factory: str, method: str) -> str:
    """The line that explains one patient of the demo in `out` again."""
    options = {
        "--model": factory,
        "--weights": out / "model.safetensors",
        "--recipe": out / "recipe.yaml",
        "--method": method,
        "--target": LESION,
        "--mask": lesion_of(out, name),
        "-o": out / f"{name}-again",
    }
    words = ["medxai", "explain", str(image_of(out, name))]
    return shlex.join([*words, *(str(word) for pair in options.items() for word in pair)])


def scores_table(margins: Mapping[str, float], evaluations: Mapping[str, Evaluation]) -> "Table":
    """Every held-out patient's scores, their mean, and the means of maps that know nothing."""
    from rich.table import Table

    every = list(evaluations.values())
    table = Table("patient", "margin", *SHOWN, title="Grad-CAM of held-out patients with a lesion")
    for name, evaluation in evaluations.items():
        table.add_row(name, f"{margins[name]:+.2f}", *(_number(evaluation[m].value) for m in SHOWN))
    table.add_section()
    table.add_row(f"mean (n = {len(every)})", "", *(_number(_mean([e[m].value for e in every])) for m in SHOWN))
    for chance in every[0].scores[0].chance:
        means = [_mean([e[m].chance[chance] for e in every]) for m in SHOWN]
        table.add_row(f"chance: {chance}", "", *map(_number, means))
    return table


def marks_table(patients: Sequence[Mapping[str, Marks]]) -> "Table":
    """For each method the means over the patients with two lesions."""
    from rich.table import Table

    columns = ("n", "in one lesion", "in the other", "score left")
    table = Table("share of the map", *columns, title="Patients with two lesions, of which one is enough")
    for name in patients[0]:
        rows = [patient[name] for patient in patients if not isnan(patient[name].weaker)]
        means = (_mean([getattr(row, of) for row in rows]) for of in ("stronger", "weaker", "left"))
        table.add_row(name, str(len(rows)), *("" if isnan(mean) else f"{mean:.3f}" for mean in means))
    return table


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def _number(value: float) -> str:
    return "undefined" if isnan(value) else f"{value:.3f}"
