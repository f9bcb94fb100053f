"""Names of files may be names of patients: what may end up in a log names the inputs by their numbers.

"[input 1]" is the first image or annotation on the command line, "[input 1, file 7]" the seventh file, by name, of that
folder.
"""

import re
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

SHOW = "--show-names"
_INPUTS = ("--mask", "--mask-image")
_OTHERS = ("-o", "--out", "--recipe", "--weights", "--model")
_PREFIX = "image:"
_MOST = 20000


def said(text: str, terminal: bool) -> str:
    """The text as a terminal shows it, or as what may be kept does, unless the command line asks for names."""
    return text if shown(terminal) else withheld(text, sys.argv[1:])


def shown(terminal: bool) -> bool:
    """Whether names are shown there."""
    return terminal or SHOW in sys.argv


def withheld(text: str, words: Sequence[str]) -> str:
    """The text with every input that the words of the command line name, and every file in one, as its number."""
    table = _numbered(_inputs(words))
    if not table:
        return text
    longest = sorted(table, key=len, reverse=True)
    pattern = "|".join(re.escape(name) for name in longest)
    return re.sub(rf"(?<![\w-])(?:{pattern})(?![\w-])", lambda found: table[found.group(0)], text)


def _inputs(words: Sequence[str]) -> list[str]:
    """The words behind the command that are paths of images or annotations."""
    found, before = [], ""
    for word in words[1:]:
        option, equals, value = word.partition("=")
        path = word.removeprefix(_PREFIX)
        if word.startswith("-"):
            path = value.removeprefix(_PREFIX)
            found += [path] if equals and (option in _INPUTS or (option not in _OTHERS and path != value)) else []
        elif before in _INPUTS or not before.startswith("-") or (before not in _OTHERS and Path(path).exists()):
            found.append(path)
        before = word
    return found


def _numbered(inputs: Sequence[str]) -> dict[str, str]:
    table: dict[str, str] = {}
    for number, word in enumerate(inputs, 1):
        path = Path(word)
        inside = sorted(islice(path.rglob("*"), _MOST)) if path.is_dir() else _listed(path)
        for place, file in enumerate(inside, 1):
            _enter(table, file, f"[input {number}, file {place}]")
        _enter(table, path, f"[input {number}]")
        table.setdefault(word, f"[input {number}]")
    return {name: said for name, said in table.items() if len(name) > 2}


def _listed(path: Path) -> list[Path]:
    """The files that a table of cases names."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return []
    cells = re.split(r'[,"\r\n]', path.read_text("utf-8-sig", errors="replace"))
    return sorted({path.parent / cell for cell in cells if "." in cell})


def _enter(table: dict[str, str], path: Path, said: str) -> None:
    for name in (str(path), str(path.absolute()), str(path.resolve()), path.name):
        table.setdefault(name, said)
