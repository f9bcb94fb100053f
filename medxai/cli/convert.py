"""The command that turns weights files into safetensors."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[Path, typer.Argument(help="Weights file: .pt, .pth, .ckpt, also one that runs code.")],
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    trust: Annotated[
        bool, typer.Option("--trust", help="Open a file that runs code, in a confined process: you trust its origin.")
    ] = False,
) -> None:
    """Convert a weights file to safetensors, without running its code or, with --trust, in a confined process."""
    from medxai.errors import UsageError
    from medxai.io.write import write_file
    from medxai.model.convert import convert_weights

    if out.suffix.lower() != ".safetensors" or out.exists():
        raise UsageError(
            f"{out} cannot be the converted file.",
            expected="a new name ending in .safetensors",
            found="a file of that name" if out.exists() else f"a name ending in {out.suffix!r}",
        )
    converted = convert_weights(source, trust)
    write_file(out, converted.content)
    typer.echo(f"{out}: {converted.tensors} tensors, SHA-256 {converted.sha256}")
    typer.echo(f"how: {'; '.join(converted.means)}")
