"""DICOM: one film, one slice, one multi-frame object or the folder of one series; voxels are modality values, float32.

A CR, DX or similar film is 2D, (row, column). Slices are 3D, (i = column, j = row, k = slice), sorted by position
along their normal; a single slice is one slice-thickness deep. Positions come from the headers alone, checked before
any pixel is decoded; InstanceNumber and file names are never looked at.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medxai.core.volume import Volume
from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.content import blaming
from medxai.io.dicom.codec import Codec
from medxai.io.dicom.facts import refuse_strangers
from medxai.io.dicom.films import film_geometry, is_film
from medxai.io.dicom.folder import images, modality
from medxai.io.dicom.frames import frame_count, frames
from medxai.io.dicom.header import Header
from medxai.io.dicom.pixels import check
from medxai.io.dicom.remarks import remarks
from medxai.io.dicom.stacking import Stack, stack
from medxai.io.dicom.values import modality_values, refuse_colour
from medxai.io.options import DEFAULT, ReadOptions

Array = NDArray[Any]


def read_dicom(path: str | Path, options: ReadOptions = DEFAULT) -> Volume:
    """The film, slice, multi-frame object or series at `path`, right to 1e-3 mm.

    Raises `InputError` (a bad grid: `GeometryError`) in the name of the file: for several series, missing or
    contradictory position, orientation, spacing or shape, gaps, duplicates, and pixel data that cannot be decoded,
    where `options` do not permit a repair. Every repair and every doubt is a notice of the volume.
    """
    path = Path(path)
    found, notices = images(path, options.series)
    with Codec(options.max_bytes) as codec:
        volume = _film(path, found, options, codec) if is_film(found[0]) else _slices(found, options, codec)
    code = modality(found[0])
    if not code and found[0].dataset.get("Modality"):
        notices = (*notices, notice("D61", "Modality is no code of the standard: left out"))
    return Volume(volume.data, volume.geometry, code, (*notices, *volume.notices))


def planes_of(found: Sequence[Header]) -> tuple[Header, ...]:
    """The frames of all files, each as a header of its own."""
    return tuple(plane for header in found for plane in frames(header))


def ordered(found: Sequence[Header], options: ReadOptions, codec: Codec | None) -> tuple[Stack, tuple[str, ...]]:
    """The stack that the slices make, and what to notice of their files; without a codec no pixel is compared."""
    planes = planes_of(found)
    refuse_strangers(planes)
    for header in found:
        refuse_colour(header, options)
    told = [text for header in found for text in check(header)[1]]

    def same(one: Header, other: Header) -> bool:
        if codec is None:
            return False
        here, there = (modality_values(header, False, options, codec)[0] for header in (one, other))
        return np.array_equal(here, there, equal_nan=True)

    return stack(planes, options, None if codec is None else same), tuple(told)


def _slices(found: tuple[Header, ...], options: ReadOptions, codec: Codec) -> Volume:
    order, told = ordered(found, options, codec)
    kept = [header for header in order.slices if header is not None]
    said = remarks(kept, options.strict_phi)
    _refuse_large(kept[0], len(order.slices), order.geometry.shape, options)
    voxels, repairs = _voxels(order, options, codec)
    notices = tuple(dict.fromkeys((*told, *order.notices, *said, *repairs)))
    return Volume(torch.from_numpy(np.ascontiguousarray(voxels.T))[None], order.geometry, notices=notices)


def _voxels(order: Stack, options: ReadOptions, codec: Codec) -> tuple[Array, dict[str, None]]:
    columns, rows = order.geometry.shape[:2]
    read = np.full((len(order.slices), rows, columns), np.nan, np.float32)
    repairs: dict[str, None] = {}
    for plane, header in zip(read, order.slices, strict=True):
        if header is not None:
            values, done = modality_values(header, False, options, codec)
            plane[...] = values
            repairs |= dict.fromkeys(done)
    if order.places is None:
        return read, repairs
    below = np.clip(np.floor(order.places).astype(int), 0, len(read) - 2)
    share = (order.places - below).astype(np.float32)
    made = np.empty((len(below), rows, columns), np.float32)
    for plane, n, s in zip(made, below, share, strict=True):
        plane[...] = (1 - s) * read[n] + s * read[n + 1]
    return made, repairs


def _film(path: Path, found: tuple[Header, ...], options: ReadOptions, codec: Codec) -> Volume:
    if len(found) > 1:
        raise InputError(
            f"{path}: the folder holds several films.",
            code="D24",
            expected="one image without patient position",
            found=", ".join(h.path.name for h in found[:5]),
            remedy="Give the path of one file.",
        )
    header = found[0]
    if (count := frame_count(header)) > 1:
        raise InputError(
            f"{path}: the film has {count} frames.",
            code="D43",
            expected="one frame",
            found=f"NumberOfFrames (0028,0008) {count}, none with a place in the patient",
            remedy="Save the frame of interest to its own file.",
        )
    refuse_colour(header, options)
    with blaming(header.path, "D18"):
        geometry, said = film_geometry(header)
    more = remarks(found, options.strict_phi)
    _refuse_large(header, 1, geometry.shape, options)
    values, done = modality_values(header, True, options, codec)
    return Volume(torch.from_numpy(values)[None], geometry, notices=(*said, *more, *done))


def _refuse_large(header: Header, count: int, shape: tuple[int, ...], options: ReadOptions) -> None:
    needed = 4 * (int(np.prod(shape, dtype=object)) + int(header.dataset.Rows) * int(header.dataset.Columns) * count)
    if needed > options.max_bytes:
        raise InputError(
            f"{header.path}: the image does not fit into the permitted memory.",
            code="D07",
            expected=f"at most {options.max_gib:g} GiB",
            found=f"{' x '.join(map(str, shape))} voxels, {needed / 2**30:.3g} GiB while reading",
            remedy="Permit more with max_gib (--max-gib), if the header is right.",
        )
