"""What a command refuses before it computes anything."""

from collections.abc import Sequence
from pathlib import Path

import torch

from medxai.core.resample import inside
from medxai.core.volume import Case, Mask
from medxai.errors import UsageError
from medxai.evaluation import share_within
from medxai.overlay import NAMES


def refuse_own_input(inputs: Sequence[Path], out: Path) -> None:
    """Raise UsageError where a result would replace a file that is read."""
    results = {(out / name).resolve() for name in NAMES}
    for path in inputs:
        if path.resolve() in results:
            raise UsageError(
                f"{path} would be replaced by a result.", remedy="Name another folder for the results with -o."
            )


def refuse_strange_mask(mask: Mask | None, case: Case) -> None:
    """Raise MaskError where a mask that is not empty lies wholly outside the image."""
    if mask is not None and mask.geometry.units == case.image.geometry.units:
        share_within(mask, inside(case.image.geometry, mask.geometry))


def parse_spacing(text: str | None) -> tuple[float, float] | None:
    """ "0.143,0.143" as (row, column) in mm. Raises UsageError."""
    if text is None:
        return None
    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError("This spacing cannot be read.", expected="ROW,COLUMN in mm", found=repr(text)) from error
    if not (0 < row < torch.inf and 0 < column < torch.inf):
        raise UsageError("A pixel has a positive size.", expected="ROW,COLUMN in mm", found=repr(text))
    return row, column
