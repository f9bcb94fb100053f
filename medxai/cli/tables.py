"""The commands that list: methods, metrics, layers."""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from math import isfinite
from typing import Annotated, Any

import typer

from medxai.cli.options import AsJson, Factory, FactoryArgs, Images, Output, RecipeFile, Weights
from medxai.cli.reading import with_read_options
from medxai.io.options import DEFAULT, ReadOptions


def methods(as_json: AsJson = False) -> None:
    """List the attribution methods: what each reads, what it costs (forward and backward passes), its parameters."""
    from medxai import catalog

    rows = [
        {
            "method": name,
            "reads": catalog.traits(name).reads,
            "cost": catalog.traits(name).cost,
            "parameters": _parameters(cls),
            "summary": (cls.__doc__ or "").strip().partition("\n")[0],
        }
        for name, cls in sorted(catalog.methods().items())
    ]
    _emit(rows, as_json)


def metrics(as_json: AsJson = False) -> None:
    """List the metrics with their range and what they need."""
    from medxai import catalog

    rows = [
        {
            "metric": name,
            "needs": m.needs,
            "unit": m.unit,
            "range": [_finite(v) for v in m.span],
            "best": m.best,
            "better": m.better,
            "summary": m.summary,
        }
        for name, m in sorted(catalog.metrics().items())
    ]
    _emit(rows, as_json)


@with_read_options
def layers(  # noqa: PLR0913, PLR0917 - one parameter per option
    images: Images,
    model: Factory,
    weights: Weights,
    recipe: RecipeFile,
    factory_arg: FactoryArgs = None,
    output: Output = None,
    everything: Annotated[bool, typer.Option("--all", help="Also list layers that cannot carry a map.")] = False,
    as_json: AsJson = False,
    options: ReadOptions = DEFAULT,
) -> None:
    """List the layers that a case passes through: type, output shape, stride in mm; marks the one that auto picks."""
    from medxai.cli.progress import steps

    with steps(3) as step:
        step("loading")
        import medxai
        from medxai.cli.targets import parse_output
        from medxai.model.layers import layer_table
        from medxai.model.load import parse_factory_args
        from medxai.model.tap import tapped
        from medxai.model.trace import trace

        network = medxai.load_model(model, weights, factory_args=parse_factory_args(factory_arg or []))
        step("preparing")
        prepared = medxai.Recipe.from_yaml(recipe).apply(medxai.load_case(*images, options=options).image)
        step("following")
        shape = tuple(prepared.images.shape)
        table = layer_table(trace(tapped(network, None if output is None else parse_output(output), shape), shape))
    spacing, units = prepared.geometry.spacing, prepared.geometry.units
    rows = [
        {
            "layer": row.name,
            "type": row.type,
            "shape": list(row.shape),
            f"stride ({'mm' if units == 'mm' else 'px'})": _stride(row.jump, spacing),
            "recommended": row.recommended,
        }
        for row in table
        if everything or row.usable
    ]
    _emit(rows, as_json)


def _stride(jump: Sequence[float] | None, spacing: Sequence[float]) -> list[float] | None:
    return None if jump is None else [round(j * s, 3) for j, s in zip(jump, spacing, strict=True)]


def _finite(value: float) -> float | str:
    return value if isfinite(value) else str(value)


def _parameters(cls: Any) -> dict[str, Any]:
    return {f.name: None if f.default is MISSING else f.default for f in fields(cls)}


def _emit(rows: list[dict[str, Any]], as_json: bool) -> None:
    from medxai.cli.report import print_json, print_table

    if as_json:
        print_json(rows)
    else:
        print_table(rows)
