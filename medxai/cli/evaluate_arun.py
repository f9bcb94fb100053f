"""The four criteria of Arun et al. 2021 for a method, over a table of images and annotations."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medxai.cli.evaluate_cohort import Line, read_lines
from medxai.cli.evaluate_network import Checkpoint, Network
from medxai.io.options import ReadOptions

if TYPE_CHECKING:
    from medxai.core.volume import Case
    from medxai.evaluation.asking import Asking

_PANEL = "Table of cases, --preset arun"
RetrainedWeights = Annotated[
    Path | None,
    typer.Option("--retrained", help="Weights of another training of the same network.", rich_help_panel=_PANEL),
]
OtherModel = Annotated[
    str | None,
    typer.Option("--other-model", help="Factory of a network of another architecture.", rich_help_panel=_PANEL),
]
OtherWeights = Annotated[
    Path | None, typer.Option("--other-weights", help="The weights of that network.", rich_help_panel=_PANEL)
]


@dataclass(frozen=True)
class Judged:
    """The network with its method, another training of it, another architecture, and how files are read."""

    network: Network
    retrained: Path | None
    other_model: str | None
    other_weights: Path | None
    spacing: str | None
    options: ReadOptions

    def others(self) -> dict[str, Network]:
        """The networks that the first is held against, by criterion. Raises UsageError for half of a question."""
        from medxai.errors import UsageError

        if self.network.method.name is None:
            raise UsageError("The criteria judge a method.", expected="--method")
        if (self.other_model is None) != (self.other_weights is None):
            raise UsageError("Half of another architecture.", expected="--other-model with --other-weights")
        found = {}
        if self.retrained is not None:
            found["repeatability"] = self._with(replace(self.network.checkpoint, weights=self.retrained))
        if self.other_model is not None:
            found["reproducibility"] = self._with(Checkpoint(self.other_model, self.other_weights))
        return found

    def _with(self, checkpoint: Checkpoint) -> Network:
        return replace(self.network, checkpoint=checkpoint)


def judge(table: Path, asked: Judged, as_json: bool) -> None:
    """Print the criteria. Raises UsageError for half of a question, and for several findings: one target is asked."""
    from medxai.cli.progress import steps
    from medxai.cli.report import in_decimals, print_json, print_table
    from medxai.errors import UsageError

    others = asked.others()
    lines = read_lines(table, ("image", "mask"))
    if len(findings := {line.finding for line in lines}) > 1:
        raise UsageError(
            "The criteria are judged for one finding.", found=f"{len(findings)}", remedy="Split the table."
        )
    with steps(4) as step:
        step("loading")
        import medxai
        from medxai.evaluation.asking import trial_of
        from medxai.evaluation.score import number
        from medxai.metrics.arun import arun

        cases = [medxai.load_case(line.paths["image"], options=asked.options) for line in lines]
        images = [case.image for case in cases]
        first = asked.network.asking()
        step("utility")
        utility = [_precision(asked, line, case, first) for line, case in zip(lines, cases, strict=True)]
        step("agreement")
        maps = {name: trial_of(images, network.asking()).maps for name, network in others.items()}
        step("weights")
        criteria = arun(trial_of(images, first), utility, maps.get("repeatability"), maps.get("reproducibility"))
    rows: list[dict[str, Any]] = [asdict(row) for row in criteria]
    if as_json:
        known = [row | {"value": number(row["value"]), "baseline": number(row["baseline"])} for row in rows]
        print_json({"criteria": known})
        return
    verdict = {True: "met", False: "not met", None: "not judged"}
    print_table([in_decimals({**row, "met": verdict[row["met"]]}) for row in rows])
    typer.echo("utility: average precision beside the prevalence; the others: SSIM beside that of random pairs of maps")


def _precision(asked: Judged, line: Line, case: "Case", asking: "Asking") -> tuple[float, float]:
    """Average precision of the map at the voxels of the annotation, and what a uniform map scores there."""
    import medxai
    from medxai.cli.checks import read_region
    from medxai.errors import UsageError
    from medxai.evaluation import evaluate

    if asking.method is None:
        raise UsageError("The criteria judge a method.", expected="--method")
    mask = read_region(line.paths["mask"], line.label, asked.spacing, asked.options)
    saliency = medxai.explain(
        asking.model, case, asking.method, asking.target, asking.recipe, device=asking.device, output=asking.output
    )
    score = evaluate(saliency, mask, ("average_precision",), asked.options)["average_precision"]
    return score.value, score.chance["uniform"]
