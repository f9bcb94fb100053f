"""MHA, MHD and NRRD: arrays (i, j, k) in 3D, (row, column) in 2D; the LPS world of their headers becomes RAS.

ITK reads a decimal comma as the end of a number, and more or less than the header describes; so the headers are read
strictly here, and ITK reads none of these files.
"""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medxai.core.geometry import Geometry
from medxai.core.volume import Volume
from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.content import blaming, first_bytes
from medxai.io.metaimage import read_meta_header
from medxai.io.nrrd import read_nrrd_header
from medxai.io.numbers import finite, torch_ready
from medxai.io.options import DEFAULT, ReadOptions
from medxai.io.source import Source, unreadable
from medxai.io.text_header import Stored

Array = NDArray[Any]


def is_itk(start: bytes) -> bool:
    """Whether these first bytes begin a NRRD or MetaImage header."""
    return start.startswith(b"NRRD0") or start[:12].lstrip().startswith((b"ObjectType", b"NDims"))


def read_itk(path: str | Path, options: ReadOptions = DEFAULT) -> Volume:
    """The 2D or 3D image of a MetaImage or NRRD file; vector components become channels.

    Raises `InputError` for malformed headers, for unreadable, truncated or damaged files, for other dimensions, for
    complex voxels, and for NaN and infinity, which `options.nan` permits.
    """
    path = Path(path)
    try:
        header = (read_nrrd_header if first_bytes(path, 5) == b"NRRD0" else read_meta_header)(path)
        stored, remarks = _voxels(path, header, options)
    except OSError as error:
        raise unreadable(path, error) from error
    array = np.moveaxis(stored, header.channels, 0) if header.channels is not None else stored[None]
    lps, flat = header.lps.copy(), array.ndim == 3
    if flat:
        lps[:, :2], array = lps[:, 1::-1], array.transpose(0, 2, 1)
    values, more = finite(path, torch_ready(path, array), options)
    with blaming(path, "N08"):
        geometry = Geometry.from_lps(lps, values.shape[1:], "mm" if header.placed else "unknown")
    nowhere = () if header.placed else (notice("N03", "header names no space: the grid is not in the patient"),)
    return Volume(torch.from_numpy(values), geometry, notices=(*nowhere, *remarks, *more))


def _voxels(path: Path, header: Stored, options: ReadOptions) -> tuple[Array, tuple[str, ...]]:
    """The array as stored, its first axis the fastest, and what there is to say of bytes behind it."""
    kind = np.dtype(header.dtype)
    size = prod(header.shape) * kind.itemsize
    if size > options.max_bytes:
        raise InputError(
            f"{path}: the header asks for more memory than an image may take.",
            expected=f"at most {options.max_gib:g} GiB",
            found=f"sizes {header.shape} of {kind}: {size / 2**30:.3g} GiB",
            remedy="If the image is so large, permit it with max_gib=... (--max-gib).",
            code="N23",
        )
    with header.data.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - size) if header.offset < 0 else min(header.offset, length))
        source = Source(path, file, header.packing)
        buffer = np.empty(size if header.packing == "zlib" or length >= size else 0, np.uint8)
        came = source.fill(buffer.data)
        left = source.finish(size) if came == size else 0
    if came < size or left >= max(1, size // header.shape[-1]):
        raise InputError(
            f"{path}: the file does not hold the voxels that its header describes.",
            expected=f"{size} bytes of voxels",
            found=f"{came} bytes; it is truncated or damaged" if came < size else f"at least {left} bytes more",
            remedy="Copy or download it again.",
            code="N17" if came < size else "N20",
        )
    remarks = (notice("N20", f"{left} bytes behind the last voxel ignored"),) if left else ()
    return buffer.view(kind).reshape(header.shape, order="F"), remarks
