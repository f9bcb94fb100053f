"""What a command reads, and refuses before it computes anything."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from medxai.core.annotation import Annotation
from medxai.core.pairing import refuse_other_units
from medxai.core.resample import inside
from medxai.core.volume import Case, Mask
from medxai.errors import UsageError
from medxai.evaluation import belonging, share_within
from medxai.io.film import Pair
from medxai.io.options import DEFAULT, ReadOptions
from medxai.io.read import load_case, read_annotation, read_mask
from medxai.overlay import NAMES

Region = TypeVar("Region", Mask, Annotation)


def refuse_own_input(inputs: Sequence[Path], out: Path) -> None:
    """Raise UsageError where a result would replace a file that is read."""
    results = {(out / name).resolve() for name in NAMES}
    for path in inputs:
        if path.resolve() in results:
            raise UsageError(
                f"{path} would be replaced by a result.", remedy="Name another folder for the results with -o."
            )


def read_inputs(
    images: Sequence[Path],
    mask: Path | None,
    label: int | None,
    spacing: str | None,
    options: ReadOptions = DEFAULT,
    mask_image: Path | None = None,
) -> tuple[Case, Annotation | None]:
    """The case and its annotation; `spacing` is for those that state no pixel size.

    A DICOM mask is placed on the grid of `mask_image`, else on that of the first image.

    Raises MaskError where mask and image do not belong together, and where a mask that is not empty lies wholly outside
    the image, and GeometryError where the pixel size of one of them alone is unknown.
    """
    size = parse_spacing(spacing)
    case = load_case(*images, options=options)
    if size is not None and case.image.geometry.units == "unknown":
        case = load_case(*images, spacing=size, options=options)
    if mask is None:
        return case, None
    region = read_region(mask, label, spacing, options, mask_image or images[0])
    refuse_other_units(case.image.geometry, region.geometry, "image", "mask")
    belonging(case.image.geometry, region, options)
    share_within(region, inside(case.image.geometry, region.geometry))
    return case, region


def read_region(
    path: Path,
    label: int | None,
    spacing: str | None,
    options: ReadOptions = DEFAULT,
    image: Path | None = None,
) -> Annotation:
    """The annotation at `path`; `spacing` is for a picture, `image` where a DICOM mask belongs."""
    return _sized(lambda size: read_annotation(path, label, size, options, image), spacing)


def read_domain(path: Path, spacing: str | None, options: ReadOptions = DEFAULT) -> Mask:
    """The mask to ask within; `spacing` is for a picture."""
    return _sized(lambda size: read_mask(path, None, size, options), spacing)


def _sized(read: Callable[[Pair | None], Region], spacing: str | None) -> Region:
    """What is read, with its pixel size where it states none itself."""
    size = parse_spacing(spacing)
    region = read(None)
    return region if size is None or region.geometry.units == "mm" else read(size)


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
