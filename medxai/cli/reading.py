"""The flags that say how files are read: one for each field of `ReadOptions`."""

from collections.abc import Callable
from dataclasses import Field, fields
from functools import wraps
from inspect import Parameter, signature
from operator import getitem
from typing import Annotated, Any

import typer

from medxai.io.options import ReadOptions


def with_read_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command, its parameter `options` replaced by one flag per field of `ReadOptions`."""
    own = [parameter for name, parameter in signature(command).parameters.items() if name != "options"]
    flags = [_flag(field) for field in fields(ReadOptions)]

    @wraps(command)
    def run(**given: Any) -> None:
        options = ReadOptions(**{flag.name: given.pop(flag.name) for flag in flags})
        command(**given, options=options)

    run.__signature__ = signature(command).replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *flags)}
    return run


def _flag(field: "Field[Any]") -> Parameter:
    name = f"--{field.name.replace('_', '-')}"
    option = typer.Option(name, help=field.metadata["help"], rich_help_panel="Reading files")
    kind = getitem(Annotated, (field.type, option))
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=kind)
