"""What the command line says of a network that is asked about changed images."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medxai.io.options import DEFAULT, ReadOptions

if TYPE_CHECKING:
    from medxai.core.saliency import Saliency
    from medxai.core.volume import Mask, Volume
    from medxai.evaluation import Score
    from medxai.evaluation.asking import Asking

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
class Network:
    """The network, the image and the question, as far as they were given."""

    model: str | None
    weights: Path | None
    recipe: Path | None
    target: str | None
    image: Path | None
    method: str | None = None
    layer: str | None = None
    output: str | None = None
    link: Link | None = None
    arguments: Sequence[str] | None = None
    device: str = "auto"
    seed: int = 0
    units: str | None = None
    baseline: str | None = None
    options: ReadOptions = DEFAULT

    def complete(self) -> None:
        """Raise UsageError where a part of the question is missing, before anything is computed."""
        from medxai.errors import UsageError

        if None in {self.model, self.weights, self.recipe, self.target, self.image}:
            raise UsageError(
                "The network cannot be asked.", expected="--model with --weights, --recipe, --target and --image"
            )

    def asking(self, layer: str = "auto") -> "Asking":
        """The question, with the method at `layer` where none was given. Raises UsageError for half of a question."""
        from medxai import catalog
        from medxai.cli.perturbation import parse_perturbation
        from medxai.cli.targets import parse_output, parse_target
        from medxai.errors import UsageError
        from medxai.evaluation.asking import Asking
        from medxai.io.recipe import Recipe
        from medxai.model.load import load_model, parse_factory_args

        if self.model is None or self.weights is None or self.recipe is None or self.target is None:
            raise UsageError("Nobody can be asked.", expected="--model with --weights, --recipe and --target")
        recipe = Recipe.from_yaml(self.recipe)
        return Asking(
            load_model(self.model, self.weights, factory_args=parse_factory_args(list(self.arguments or ()))),
            parse_target(self.target),
            recipe,
            None if self.method is None else catalog.method(self.method, self.layer or layer),
            None if self.link is None else self.link.value,
            parse_perturbation(self.units, self.baseline, recipe, self.options),
            output=None if self.output is None else parse_output(self.output),
            device=self.device,
            seed=self.seed,
        )

    def ask(
        self, found: "Saliency", image: "Volume", names: Sequence[str] | None, preset: str, domain: "Mask | None"
    ) -> "Sequence[Score]":
        """The scores that need the network, its method at the layer that `found` is of."""
        from medxai.evaluation.asking import evaluate_model

        return evaluate_model(found, image, self.asking(found.provenance.layer or "auto"), names, domain, preset)
