"""The command line: every command parses, calls the library and prints; heavy imports wait for the command."""

import sys
import warnings

import typer

from medxai.cli import commands, convert, inspect, tables

app = typer.Typer(
    name="medxai",
    help="Where did a medical image model look, and is that where the disease is?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("explain")(commands.explain)
app.command("evaluate")(commands.evaluate)
app.command("inspect")(inspect.inspect)
app.command("layers")(tables.layers)
app.command("methods")(tables.methods)
app.command("metrics")(tables.metrics)
app.command("convert")(convert.convert)
app.command("demo")(commands.demo)


def main() -> None:
    """Run the command line; a deliberate error is one message on stderr and exit code 2."""
    from medxai.errors import MedxaiError

    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module="medxai")
        try:
            app()
        except MedxaiError as error:
            _say(str(error))
            sys.exit(2)
        finally:
            for remark in remarks:
                _say(f"note: {remark.message}")


def _say(text: str) -> None:
    print(f"medxai: {text}", file=sys.stderr)  # noqa: T201 - the console script's own voice
