"""PNG, JPEG and other pictures of one page: arrays are (row, column), on the grid of `medxai.io.film`."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medxai.core.volume import Volume
from medxai.errors import InputError
from medxai.io.content import read_bytes
from medxai.io.film import Pair, flat_geometry

Array = NDArray[Any]

_GRAY = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N")


def read_picture(path: str | Path, spacing: Pair | None = None) -> Volume:
    """A picture as one channel (gray) or three (colour); `spacing` is (row, column) in mm of the picture as turned.

    Raises `InputError` for transparency, CMYK, several pages, floating-point pixels and damaged files.
    """
    path = Path(path)
    array, notices = _pixels(path, read_bytes(path))
    return Volume(torch.from_numpy(array), flat_geometry(array.shape[1:], spacing), notices=notices)


def _pixels(path: Path, content: bytes) -> tuple[Array, tuple[str, ...]]:
    from PIL import Image, ImageOps

    notices: list[str] = []
    try:
        with Image.open(io.BytesIO(content)) as page:
            _refuse(path, page, content)
            page.load()
            turn = page.getexif().get(0x0112, 1)
            image = ImageOps.exif_transpose(page)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: the picture cannot be decoded.", found=str(error).partition(" <")[0], remedy="Copy it again."
        ) from error
    if turn != 1:
        notices.append(f"turned upright as EXIF orientation {turn} says")
    if image.mode == "P":
        image = image.convert("RGB")
        notices.append("colour palette applied")
    array = np.asarray(image)
    if array.ndim == 2:
        return _gray(array)[None], tuple(notices)
    if (array == array[..., :1]).all():
        return _gray(array[..., 0])[None], (*notices, "three equal colour channels read as one gray channel")
    return np.ascontiguousarray(np.moveaxis(array, -1, 0)), tuple(notices)


def _gray(array: Array) -> Array:
    kept = array.astype(np.uint8) if array.dtype.itemsize == 1 else array.astype(np.int32)
    return np.ascontiguousarray(kept)


def _refuse(path: Path, page: Any, content: bytes) -> None:
    problem = ""
    if getattr(page, "n_frames", 1) > 1:
        problem = f"{page.n_frames} pages"
    elif "transparency" in page.info or page.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        problem = "transparency"
    elif page.mode == "RGB" and page.format == "PNG" and content[24] == 16:
        problem = "16-bit colour, which would lose half its bits"
    elif page.mode not in (*_GRAY, "P", "RGB"):
        problem = f"pixels of kind {page.mode}"
    if problem:
        raise InputError(
            f"{path}: this picture has {problem}.",
            expected="one page, gray (1 to 16 bit), palette or RGB",
            remedy="Convert it so that no information hides outside these, e.g. to gray PNG.",
        )


def is_picture(start: bytes) -> bool:
    """Whether these first bytes are the mark of a PNG, JPEG, GIF, BMP or TIFF file."""
    return start.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*"))
