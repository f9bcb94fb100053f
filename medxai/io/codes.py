"""Stable codes of unusual inputs, one per row of docs/bad_inputs.md: an error carries its own, a notice begins with it.

InputError("...", code="D20", ...)      error.code == "D20", and the message begins "[D20]"
notice("D31", "MONOCHROME1 inverted")   "D31: MONOCHROME1 inverted"
"""

import re
from collections.abc import Iterable

_CODE = re.compile(r"([A-Z]\d{2}): ")


def notice(code: str, text: str) -> str:
    """What a reader repaired or wants known, led by its code; `text` names no patient, file or identifier."""
    return f"{code}: {text}"


def codes(notices: Iterable[str]) -> tuple[str, ...]:
    """The codes that these notices begin with, each once, in their order."""
    found = (_CODE.match(text) for text in notices)
    return tuple(dict.fromkeys(match.group(1) for match in found if match))
