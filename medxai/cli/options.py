"""The options that several commands share, each defined once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Images = Annotated[
    list[Path], typer.Argument(help="Image file or DICOM folder; several become the channels of one case, in order.")
]
Factory = Annotated[str, typer.Option("--model", help="Importable factory of the network, as package.module:callable.")]
FactoryArgs = Annotated[
    list[str] | None, typer.Option("--factory-arg", help="Argument of the factory, as name=value; repeat for more.")
]
Weights = Annotated[Path, typer.Option("--weights", help="Weights: .safetensors, or .pt/.pth without code in it.")]
Output = Annotated[
    str | None,
    typer.Option("--output", help="The part of the model's output to explain: a key, an index, or layer:NAME."),
]
WeightsDigest = Annotated[
    str | None, typer.Option("--weights-sha256", help="SHA-256 of the weights file, verified before it is opened.")
]
RecipeFile = Annotated[Path, typer.Option("--recipe", help="Preprocessing recipe, YAML.")]
MaskFile = Annotated[
    Path | None, typer.Option("--mask", help="Annotation to score against, on any grid of the patient.")
]
MaskImage = Annotated[
    Path | None,
    typer.Option("--mask-image", help="DICOM image that a DICOM mask belongs to, where it is not the one explained."),
]
Label = Annotated[int | None, typer.Option("--label", help="The label value that is the finding, in a label map.")]
Spacing = Annotated[
    str | None, typer.Option("--spacing", help="ROW,COLUMN in mm of a pixel, for pictures and films that do not say.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of every random number.")]
Window = Annotated[
    str | None,
    typer.Option("--window", help="Explain in windows of so many voxels of the prepared image: 96, or 96,96,64."),
]
Overlap = Annotated[
    float, typer.Option("--overlap", min=0, max=0.99, help="The share of a window that its neighbour repeats.")
]
Margin = Annotated[int, typer.Option("--margin", min=0, help="Voxels inside a window's edges that count nothing.")]
Blending = Annotated[
    Literal["constant", "gaussian"], typer.Option("--blend", help="How windows that overlap are weighed.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
