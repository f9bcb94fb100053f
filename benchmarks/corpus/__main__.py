"""Run every reader over every input and print what became of them.

python -m benchmarks.corpus [OUT.json]
"""

import json
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.corpus.child import READERS
from benchmarks.corpus.inputs import bundled, fuzzed, generated, real
from benchmarks.corpus.judge import Input, unknown
from benchmarks.corpus.others import nibabel_files, niftis, pictures, text_headers

SECONDS = 60
FATES = ("tried", "refused", "right", "repaired or told", "unjudged", "silently wrong", "unclassified", "crashed")


@dataclass
class Child:
    """A reader in its own process, started again after a crash."""

    reader: str
    folder: Path
    process: "subprocess.Popen[str] | None" = field(default=None)

    def ask(self, path: Path) -> dict[str, Any]:
        """Its answer, or how it died."""
        if self.process is None:
            command = [sys.executable, "-m", "benchmarks.corpus.child", self.reader, str(self.folder)]
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if line:
            return dict(json.loads(line))
        self.process.kill()
        code, self.process = self.process.wait(), None
        return {"crashed": f"signal {-code}" if ready else "no answer"}


def fate(reader: str, given: Input, reply: dict[str, Any], ours: np.ndarray[Any, Any] | None) -> str:
    """What became of the input."""
    if "crashed" in reply:
        return "crashed"
    if "error" in reply:
        return "refused" if reader != "medxai" or reply["ours"] else "unclassified"
    if reply["told"]:
        return "repaired or told"
    voxels, affine = np.load(reply["file"], mmap_mode="r"), np.array(reply["affine"])
    if voxels.ndim not in {2, 3} or affine.shape != (4, 4):
        return "unjudged" if given.judge is unknown or not given.group.startswith("generated") else "silently wrong"
    verdict = given.judge(voxels, affine)
    if given.like_medxai and reader != "medxai" and ours is not None:
        verdict = voxels.size == ours.size and bool(
            np.allclose(np.sort(voxels, axis=None), np.sort(ours, axis=None), rtol=1e-5, atol=1e-3, equal_nan=True)
        )
    return {True: "right", False: "silently wrong", None: "unjudged"}[verdict]


def run(inputs: Sequence[Input], folder: Path) -> list[dict[str, Any]]:
    """One record per input and reader."""
    records = []
    children = {name: Child(name, folder / name) for name in READERS}
    for child in children.values():
        child.folder.mkdir()
    for n, given in enumerate(inputs):
        sys.stderr.write(f"\r{n + 1} of {len(inputs)}: {given.name[:60]:60}")
        ours = None
        for name, child in children.items():
            reply = child.ask(given.path)
            became = fate(name, given, reply, ours)
            if name == "medxai" and "file" in reply and "error" not in reply:
                ours = np.load(reply["file"])
            said = reply.get("error") or reply.get("crashed") or "; ".join([*reply["told"], *reply["warned"]])
            records.append({"group": given.group, "input": given.name, "reader": name, "fate": became, "said": said})
    return records


def table(records: list[dict[str, Any]]) -> Table:
    """Counts per group and reader."""
    result = Table("inputs", "reader", *FATES)
    for group in dict.fromkeys(record["group"] for record in records):
        for reader in READERS:
            counted = Counter(r["fate"] for r in records if (r["group"], r["reader"]) == (group, reader))
            counted["tried"] = counted.total()
            result.add_row(group, reader, *(str(counted[name]) for name in FATES))
    return result


def main() -> None:
    """Print the table and the silent lies; write all records where a path is given."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = []
        for n, make in enumerate((generated, niftis, text_headers, pictures)):
            place = folder / f"rows{n}"
            place.mkdir()
            made += make(place)
        inputs = [*made, *bundled(), *nibabel_files(), *real(), *fuzzed()]
        records = run(inputs, folder)
    console = Console(width=160)
    console.print(table(records))
    for record in records:
        if record["fate"] in {"silently wrong", "crashed", "unclassified"}:
            console.print(f"{record['reader']}: {record['fate']}: {record['group']}: {record['input']}")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
