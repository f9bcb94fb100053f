"""Write docs/support.md: every method on every architecture, as it ran: `python -m benchmarks.support`."""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.support.laws import BrokenLawError, judge
from benchmarks.support.networks import ARCHITECTURES
from medxai import catalog

PAGE = Path(__file__).parents[2] / "docs" / "support.md"
HEAD = """\
# Which method runs on which network

Written by `make support`, which runs every method of the catalogue on every network below with random weights, in 2D
and 3D, and checks that the map is finite, that the place of its cells is known, that the model is left as it was found,
that the same seed gives the same bytes and that a batch equals one image at a time. Methods that score masked images
run on a layer of at most 64 channels here, and what iterates takes few steps.

A number refers to the reason below the table; a broken law would stop the run. With random weights many maps are empty,
which is then said of them, and is no fault of the method. "Not run" is what was left out for its time.
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--methods", nargs="*", default=sorted(catalog.methods()))
    options.add_argument("--page", type=Path, default=PAGE)
    options.add_argument("--record", type=Path, help="JSON to continue from and to add to")
    chosen = options.parse_args()
    found: dict[str, str] = {}
    if chosen.record and chosen.record.exists():
        found = json.loads(chosen.record.read_text("utf-8"))
    for name in chosen.methods:
        for architecture in ARCHITECTURES:
            for ndim in (2, 3):
                key = f"{name}|{architecture.name}|{ndim}"
                if key in found:
                    continue
                started = time.perf_counter()
                try:
                    found[key] = judge(name, architecture, ndim)
                except BrokenLawError as broken:
                    raise SystemExit(f"{name} on {architecture.name} {ndim}D breaks a law: {broken}") from broken
                print(f"{key}: {found[key] or 'passes'} ({time.perf_counter() - started:.1f} s)", flush=True)
                if chosen.record:
                    chosen.record.write_text(json.dumps(found, indent=1), "utf-8")
    chosen.page.write_text(page(found), "utf-8")


def page(found: Mapping[str, str]) -> str:
    """The table in Markdown: a tick, or the number of a reason."""
    names = sorted({key.split("|")[0] for key in found})
    reasons: dict[str, int] = {}
    rows = []
    for name in names:
        cells = [_cell(found, name, a.name, n, reasons) for a in ARCHITECTURES for n in (2, 3)]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    columns = [f"{a.name} {n}D" for a in ARCHITECTURES for n in (2, 3)]
    table = ["| method | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns), *rows]
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join([HEAD, *table, "", *notes, ""])


def _cell(found: Mapping[str, str], name: str, architecture: str, ndim: int, reasons: dict[str, int]) -> str:
    reason = found.get(f"{name}|{architecture}|{ndim}")
    if reason is None:
        return "not run"
    if not reason:
        return "✓"
    return str(reasons.setdefault(reason, len(reasons) + 1))


if __name__ == "__main__":
    main()
