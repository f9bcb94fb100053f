"""A progress bar on stderr, where somebody is watching."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Step = Callable[[str], None]


@contextmanager
def steps(total: int) -> Iterator[Step]:
    """A bar of `total` steps; call the yielded function with the name of each step as it begins."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        begun = [False]

        def step(name: str) -> None:
            bar.update(task, description=name, advance=int(begun[0]))
            begun[0] = True

        yield step
