"""PNG, JPEG and other pictures of one page: arrays are (row, column), on the grid of `medxai.io.film`."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medxai.core.volume import Volume
from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.content import read_bytes
from medxai.io.film import Pair, flat_geometry
from medxai.io.options import DEFAULT, ReadOptions
from medxai.io.picture_checks import (
    FORMATS,
    MOST_PIXELS,
    about_name,
    depth,
    is_picture,
    refusal,
    refuse_damage,
    white_is_zero,
)

__all__ = ["is_picture", "read_picture"]

Array = NDArray[Any]

_GRAY = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_ORIENTATION = 0x0112
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_CODES = {"pixels": "P06", "pages": "P08", "bits": "P01"}


def read_picture(path: str | Path, spacing: Pair | None = None, options: ReadOptions = DEFAULT) -> Volume:
    """A picture as one channel (gray) or three (colour); `spacing` is (row, column) in mm of the picture as turned.

    Raises `InputError` for transparency, CMYK, several pages, floating-point pixels, more than 2^27 pixels and damaged
    files.
    """
    path = Path(path)
    content = read_bytes(path, options.max_bytes)
    refuse_damage(path, content)
    array, notices = _pixels(path, content)
    if options.gray and len(array) == len(_LUMA):
        array = np.tensordot(_LUMA, array.astype(np.float32), 1)[None]
        notices = (*notices, notice("P10", "colour turned into its luma, as the user chose"))
    geometry = flat_geometry(array.shape[1:], spacing)
    return Volume(torch.from_numpy(array), geometry, notices=(*about_name(path, content), *notices))


def _pixels(path: Path, content: bytes) -> tuple[Array, tuple[str, ...]]:
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(record=True) as remarks, io.BytesIO(content) as file:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as page:
                bits, inverted = depth(page, content), white_is_zero(page)
                _refuse(path, page, refusal(page, bits))
                turn = page.getexif().get(_ORIENTATION, 1)
                page.load()
                image = ImageOps.exif_transpose(page)
    except Image.DecompressionBombError as error:
        raise _unfit(path, f"more than {MOST_PIXELS} pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: the picture cannot be decoded.",
            found=str(error).partition(" <")[0].replace(str(path), ""),
            remedy="Copy it again.",
            code="P07",
        ) from error
    damaged = (notice("P07", "the decoder remarks on damaged metadata"),) if remarks else ()
    image, notices = _opaque(path, image, (*damaged, *_about_turn(turn)))
    if image.mode == "P":
        image, notices = image.convert("RGB"), (*notices, notice("P02", "colour palette applied"))
    if image.mode not in (*_GRAY, "RGB"):
        raise _unfit(path, f"pixels of kind {image.mode}")
    array = np.asarray(image)
    if array.ndim == 2:
        gray, more = _gray(array, bits, inverted)
        return gray[None], (*notices, *more)
    if (array == array[..., :1]).all():
        one = notice("P10", "three equal colour channels read as one gray channel")
        return _gray(array[..., 0], 8, inverted=False)[0][None], (*notices, one)
    return np.ascontiguousarray(np.moveaxis(array, -1, 0)), notices


def _about_turn(turn: Any) -> tuple[str, ...]:
    if turn in (0, 1):
        return ()
    if turn in range(2, 9):
        return (notice("P05", f"turned upright as EXIF orientation {turn} says"),)
    return (notice("P05", "an EXIF orientation without meaning ignored"),)


def _gray(array: Array, bits: int, inverted: bool) -> tuple[Array, tuple[str, ...]]:
    """Samples as stored: narrow ones, which decoders stretch to 8 bits, come back to their own range."""
    kept = array.astype(np.uint8) if array.dtype.itemsize == 1 else array.astype(np.int32)
    notices = []
    if inverted:
        notices.append(notice("P12", "a TIFF whose zero is white: turned so that high values are bright"))
        kept = 65535 - kept if bits == 16 else kept  # of narrower samples the decoder has done it
    if bits in (2, 4):
        kept //= 255 // (2**bits - 1)
        notices.append(notice("P01", f"samples of {bits} bits kept as stored"))
    return np.ascontiguousarray(kept), tuple(notices)


def _opaque(path: Path, image: Any, notices: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """The picture without its alpha channel, which must hide nothing."""
    if image.mode not in _ALPHA and "transparency" not in image.info:
        return image, notices
    alpha = image.convert("RGBA").getchannel("A")
    if alpha.getextrema() != (255, 255):
        raise _unfit(path, "transparency")
    gray = image.mode in ("LA", "La", "L")
    plain = image.convert("RGBA").convert("RGB")
    return plain.getchannel(0) if gray else plain, (*notices, notice("P03", "opaque alpha channel dropped"))


def _refuse(path: Path, page: Any, problem: str) -> None:
    if problem:
        raise _unfit(path, problem)
    if page.mode not in (*_GRAY, *_ALPHA, "P", "RGB"):
        raise _unfit(path, f"pixels of kind {page.mode}")


def _unfit(path: Path, problem: str) -> InputError:
    code = next((code for word, code in _CODES.items() if word in problem and "kind" not in problem), "")
    kinds = {"transparency": "P03", "pixels of kind CMYK": "P04", "pixels of kind F": "P08"}
    return InputError(
        f"{path}: this picture has {problem}.",
        expected=f"one page, gray (1 to 16 bit), palette or RGB, at most {MOST_PIXELS} pixels",
        remedy="Convert it so that no information hides outside these, e.g. to gray PNG.",
        code=code or kinds.get(problem, "P08"),
    )
