"""What the command line says of a network that is asked about changed images."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medxai.io.options import DEFAULT, ReadOptions

if TYPE_CHECKING:
    from medxai.evaluation.asking import Asking
    from medxai.metrics.spec import MetricSpec, PerturbationPart

_PANEL = "Asking the network too"


class Link(StrEnum):
    """How an output becomes the score that is drawn."""

    softmax = "softmax"
    sigmoid = "sigmoid"
    identity = "identity"


Asked = Annotated[
    str | None, typer.Option("--model", help="Factory of the network, as in explain.", rich_help_panel=_PANEL)
]
AskedWeights = Annotated[Path | None, typer.Option("--weights", help="Its weights.", rich_help_panel=_PANEL)]
AskedRecipe = Annotated[Path | None, typer.Option("--recipe", help="Its preprocessing recipe.", rich_help_panel=_PANEL)]
AskedTarget = Annotated[str | None, typer.Option("--target", help="What was explained.", rich_help_panel=_PANEL)]
AskedMethod = Annotated[
    str | None, typer.Option("--method", help="The method, to ask it again too.", rich_help_panel=_PANEL)
]
AskedLayer = Annotated[
    str | None,
    typer.Option("--layer", help="Its layer; else that of the map, or auto.", rich_help_panel=_PANEL),
]
AskedOutput = Annotated[
    str | None, typer.Option("--output", help="The part of the output that was explained.", rich_help_panel=_PANEL)
]
AskedLink = Annotated[
    Link | None,
    typer.Option(
        "--link",
        help="softmax: classes exclude each other; sigmoid: each stands alone; identity: logits, regression.",
        rich_help_panel=_PANEL,
    ),
]

AskedUnits = Annotated[
    str | None,
    typer.Option(
        "--units", help="What is removed at once: voxels, cubes:8 (mm), supervoxels:200.", rich_help_panel=_PANEL
    ),
]
AskedBaseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        help="What takes its place: constant:0, mean, blur:10 (mm), road, patch:CORNER/SIZE, image:FILE.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class Checkpoint:
    """The factory of a network with its arguments, and its weights, as far as they were given."""

    model: str | None
    weights: Path | None
    arguments: Sequence[str] | None = None


@dataclass(frozen=True)
class Question:
    """What was explained, of which part of the output, and how it becomes a score."""

    target: str | None
    output: str | None = None
    link: Link | None = None


@dataclass(frozen=True)
class Method:
    """The name of the method, None where it is not asked again, and its layer."""

    name: str | None = None
    layer: str | None = None


@dataclass(frozen=True)
class Input:
    """The image, how files are read and how the image is prepared."""

    image: Path | None
    recipe: Path | None
    options: ReadOptions = DEFAULT


@dataclass(frozen=True)
class Removal:
    """What is removed at once and what takes its place; as by default where not given."""

    units: str | None = None
    baseline: str | None = None

    def taken(self, rows: "Sequence[MetricSpec]") -> dict[str, str]:
        """By option what was said, or "default", of that on which one of the metrics depends."""
        said: dict[PerturbationPart, str | None] = {"units": self.units, "baseline": self.baseline}
        return {part: text or "default" for part, text in said.items() if any(row.takes(part) for row in rows)}


@dataclass(frozen=True)
class Network:
    """A network that is asked about changed images, as far as the command line says."""

    checkpoint: Checkpoint
    question: Question
    input: Input
    method: Method = Method()
    removal: Removal = Removal()
    device: str = "auto"
    seed: int = 0

    def complete(self) -> None:
        """Raise UsageError where a part of the question is missing, before anything is computed."""
        from medxai.errors import UsageError

        asked = (self.checkpoint.model, self.checkpoint.weights, self.question.target)
        if None in {*asked, self.input.recipe, self.input.image}:
            raise UsageError(
                "The network cannot be asked.", expected="--model with --weights, --recipe, --target and --image"
            )

    def asking(self, layer: str = "auto") -> "Asking":
        """The question, with the method at `layer` where none was given; all of it is read before the network is made.

        Raises UsageError for half of a question, and for what cannot be read.
        """
        from medxai import catalog
        from medxai.cli.perturbation import parse_perturbation
        from medxai.cli.targets import parse_output, parse_target
        from medxai.errors import UsageError
        from medxai.evaluation.asking import Asking
        from medxai.io.recipe import Recipe
        from medxai.model.load import load_model, parse_factory_args

        model, weights, arguments = self.checkpoint.model, self.checkpoint.weights, self.checkpoint.arguments or ()
        question, method = self.question, self.method
        if model is None or weights is None or self.input.recipe is None or question.target is None:
            raise UsageError("Nobody can be asked.", expected="--model with --weights, --recipe and --target")
        recipe = Recipe.from_yaml(self.input.recipe)
        return Asking(
            target=parse_target(question.target),
            recipe=recipe,
            method=None if method.name is None else catalog.method(method.name, method.layer or layer),
            link=None if question.link is None else question.link.value,
            perturbation=parse_perturbation(self.removal.units, self.removal.baseline, recipe, self.input.options),
            output=None if question.output is None else parse_output(question.output),
            device=self.device,
            seed=self.seed,
            model=load_model(model, weights, factory_args=parse_factory_args(list(arguments))),
        )
