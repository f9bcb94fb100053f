"""What a record may say of a step: settings, and never a text that could name a file, a folder or a person."""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

# A mode ("nearest-exact"), a device ("cuda:0"), axis letters ("RAS").
_SETTING = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*(:\d)?|[A-Z]{1,3}")
_LONGEST = 20
WITHHELD = "(text withheld)"


def settings(transform: Any) -> dict[str, Any]:
    """The public attributes of a transform of MONAI in JSON's own types; names of dictionary keys are left out."""
    given = {name: value for name, value in vars(transform).items() if not name.startswith("_")}
    return {name: recorded(value) for name, value in given.items() if name != "keys" and not name.endswith("_key")}


def recorded(value: Any) -> Any:
    """Numbers, booleans, None and short words as they are, and lists and mappings of them; of objects the class.

    Any other text is withheld.
    """
    if isinstance(value, Mapping):
        return {recorded(str(key)): recorded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [recorded(item) for item in value]
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return recorded(value.tolist())
    if type(value).__module__.startswith("monai.transforms."):
        return {type(value).__name__: settings(value)}
    simple = value.value if isinstance(value, Enum) else value
    return simple if simple is None or isinstance(simple, (bool, int, float)) else _word(simple)


def _word(value: Any) -> str:
    if isinstance(value, (torch.dtype, torch.device, np.dtype)):
        return str(value)
    text = value if isinstance(value, str) else getattr(value, "__name__", "")
    if not text:
        return type(value).__name__
    return text if len(text) <= _LONGEST and _SETTING.fullmatch(text) else WITHHELD
