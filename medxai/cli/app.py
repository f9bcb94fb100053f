"""The command line: every command parses, calls the library and prints; heavy imports wait for the command."""

import sys
import traceback
import warnings

import typer

from medxai.cli import commands, convert, evaluate, inspect, tables
from medxai.cli.names import SHOW, said, shown

app = typer.Typer(
    name="medxai",
    help="Where did a medical image model look, and is that where the disease is?",
    epilog=f"{SHOW}: name input files also where messages go to a log.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("explain")(commands.explain)
app.command("evaluate")(evaluate.evaluate)
app.command("inspect")(inspect.inspect)
app.command("layers")(tables.layers)
app.command("methods")(tables.methods)
app.command("metrics")(tables.metrics)
app.command("convert")(convert.convert)
app.command("demo")(commands.demo)


def main() -> None:
    """Run the command line; a deliberate error is one message on stderr and exit code 2, any other one code 1.

    What goes to no terminal, and so may be kept, names no input: see `medxai.cli.names`.
    """
    from medxai.errors import MedxaiError

    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module="medxai")
        try:
            app([word for word in sys.argv[1:] if word != SHOW])
        except MedxaiError as error:
            _say(str(error))
            sys.exit(2)
        except Exception as error:
            if shown(sys.stderr.isatty()):
                raise
            _say(f"internal error: {_told(error)}. Please report it; {SHOW} prints the whole of it.")
            sys.exit(1)
        finally:
            for remark in remarks:
                _say(f"note: {remark.message}")


def _told(error: Exception) -> str:
    """What went wrong and where, without the text of the error, which may name a patient."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {last.name}, {last.filename.rpartition('/')[2]}:{last.lineno}"


def _say(text: str) -> None:
    print(f"medxai: {said(text, sys.stderr.isatty())}", file=sys.stderr)  # noqa: T201 - the console script's own voice
