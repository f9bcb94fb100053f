"""NIfTI-1 and NIfTI-2 files: voxels in the unit of the modality, array axes as stored, affine to RAS+ millimetres.

The header is checked before a voxel is read (`nifti_header`), and says where they are (`nifti_place`).
"""

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medxai.core.volume import Volume
from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.nifti_header import NiftiHeader, is_nifti, read_header
from medxai.io.nifti_place import PIXEL_FRAME, place
from medxai.io.numbers import finite, torch_ready
from medxai.io.options import DEFAULT, ReadOptions
from medxai.io.source import Source, opened

__all__ = ["PIXEL_FRAME", "is_nifti", "read_nifti"]

Array = NDArray[Any]

_PARTS: Mapping[str, Callable[[Array], Array]] = {"magnitude": np.abs, "real": np.real, "imaginary": np.imag}
_COLOURS = {"red": "R", "green": "G", "blue": "B"}


def read_nifti(path: str | Path, options: ReadOptions = DEFAULT) -> Volume:
    """The one 3D (or 2D) image of a NIfTI file; integers stay integers unless the header scales them.

    Raises `InputError` for a damaged or truncated file, for more than one volume, for colour or complex voxels, for NaN
    and infinity, and where qform and sform place a corner more than 0.1 mm apart; `options` permits some of these.
    """
    path = Path(path)
    with opened(path) as source:
        header = read_header(source)
        axes = _axes(path, header, options)
        geometry, remarks = place(path, header, tuple(header.shape[a] for a in axes), options)
        stored, trailing = _stored(source, header, axes, options)
        notices = (*header.notices, *_about_axes(header, axes), *remarks, *trailing, *_about_packing(source))
    array = _valued(header, _one_part(path, stored, options))
    values, more = finite(path, torch_ready(path, array), options)
    return Volume(torch.from_numpy(values.reshape(1, *geometry.shape)), geometry, notices=(*notices, *more))


def _axes(path: Path, header: NiftiHeader, options: ReadOptions) -> tuple[int, ...]:
    """The axes of space: the first three, or two where there are no more."""
    series = prod(header.shape[3:])
    volume = options.volume
    if len(header.shape) < 2:
        raise InputError(
            f"{path}: this is no image.",
            expected="two or three axes of space",
            found=f"shape {header.shape}",
            code="N15",
        )
    if series > 1 and (volume is None or not 0 <= volume < series):
        raise InputError(
            f"{path}: this is not one 2D or 3D image.",
            expected="two or three axes (further axes of length one are dropped)",
            found=f"shape {header.shape}",
            remedy=f"Choose one with volume=k (--volume k), k from 0 to {series - 1}, or save it to its own file.",
            code="N14",
        )
    return tuple(range(min(3, len(header.shape))))


def _about_axes(header: NiftiHeader, axes: tuple[int, ...]) -> tuple[str, ...]:
    further = header.shape[len(axes) :]
    if not further:
        return ()
    if prod(further) == 1:
        return (notice("N14", "further axes of length one dropped"),)
    return (notice("N14", f"one volume of {prod(further)} read, as the user chose"),)


def _about_packing(source: Source) -> tuple[str, ...]:
    named = source.path.name.lower().endswith(".gz")
    if named == source.packed:
        return ()
    return (notice("N21", "gzip content under a plain name" if source.packed else "plain content under a gzip name"),)


def _stored(
    source: Source, header: NiftiHeader, axes: tuple[int, ...], options: ReadOptions
) -> tuple[Array, tuple[str, ...]]:
    """The voxels of one volume as the file holds them, and what there is to say of the bytes behind the last one."""
    path = source.path
    one = prod(header.shape[a] for a in axes) * header.dtype.itemsize
    _refuse_giant(source, header, one, options)
    head = int(header.fields.dtype.itemsize)
    before = (options.volume or 0) * one if header.bytes > one else 0
    first = header.offset + before
    skipped = source.skip(first - head)
    buffer = np.empty(one if skipped == first - head else 0, np.uint8)
    came = source.fill(buffer.data)
    slice_ = prod(header.shape[: min(2, len(header.shape) - 1)]) * header.dtype.itemsize
    rest = header.bytes - before - one
    left = source.finish(rest + slice_) if came == one else 0
    if came < one or left < rest:
        raise InputError(
            f"{path}: the file ends before its voxels do.",
            expected=f"{header.offset + header.bytes} bytes",
            found=f"{head + skipped + came + left} bytes",
            remedy="Copy or download it again.",
            code="N17",
        )
    shape = tuple(header.shape[a] for a in axes)
    return buffer.view(header.dtype).reshape(shape, order="F"), _about_rest(path, left - rest, slice_)


def _refuse_giant(source: Source, header: NiftiHeader, size: int, options: ReadOptions) -> None:
    if size > options.max_bytes or header.bytes > 64 * options.max_bytes:
        raise InputError(
            f"{source.path}: the header asks for more memory than an image may take.",
            expected=f"at most {options.max_gib:g} GiB",
            found=f"shape {header.shape} of {header.dtype}: {size / 2**30:.3g} GiB",
            remedy="If the image is so large, permit it with max_gib=... (--max-gib).",
            code="N24" if source.packed else "N23",
        )


def _about_rest(path: Path, left: int, slice_: int) -> tuple[str, ...]:
    """A slice or more behind the last voxel means that the header tells of fewer voxels than there are."""
    if left >= slice_:
        raise InputError(
            f"{path}: at least one more slice follows the voxels that the header describes.",
            expected="the end of the file",
            found=f"{left} bytes or more" if left > slice_ else f"{left} bytes",
            remedy="Repair dim in the header, or cut the file behind its last voxel.",
            code="N20",
        )
    return (notice("N20", f"{left} bytes behind the last voxel ignored"),) if left else ()


def _one_part(path: Path, stored: Array, options: ReadOptions) -> Array:
    """The one number per voxel that is asked for of colour or complex voxels; other voxels as they are."""
    part = options.component or ""
    if stored.dtype.names and part in _COLOURS:
        return stored[_COLOURS[part]]
    if stored.dtype.kind == "c" and part in _PARTS:
        return np.asarray(_PARTS[part](stored))
    if stored.dtype.names is None and stored.dtype.kind != "c":
        return stored
    choices = list(_COLOURS if stored.dtype.names else _PARTS)
    raise InputError(
        f"{path}: voxels are neither integers nor real numbers.",
        expected="one number per voxel",
        found="colour voxels" if stored.dtype.names else "complex voxels",
        remedy=f"Choose one with component= (--component): {', '.join(choices)}.",
        code="N27",
    )


def _valued(header: NiftiHeader, array: Array) -> Array:
    """slope * stored + inter, in float64, as float32; what is not scaled stays as it is."""
    if not header.scaled:
        return array
    return array.astype(np.float64) * header.slope + header.inter
