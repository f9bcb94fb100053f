"""DICOM: one film, one slice, or the folder of one series; voxels are modality values (HU for CT), float32.

A CR, DX or similar film is 2D, (row, column). Slices are 3D, (i = column, j = row, k = slice), sorted by position
along their normal; a single slice is one slice-thickness deep. Positions come from the headers alone, checked before
any pixel is decoded; InstanceNumber and file names are never looked at.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from pydicom import Dataset

from medxai.core.volume import Volume
from medxai.errors import InputError
from medxai.io.content import blaming
from medxai.io.dicom_files import Header, headers
from medxai.io.dicom_geometry import film_geometry, stack
from medxai.io.dicom_pixels import modality_values

_PROJECTIONS = {"CR", "DX", "MG", "IO", "PX", "RF", "RG", "XA"}
_SLICED = {"CT", "MR", "PT", "NM", "OPT", "RTDOSE"}


def read_dicom(path: str | Path) -> Volume:
    """The film, slice or series at `path`, right to 1e-3 mm.

    Raises `InputError` (a bad grid: `GeometryError`) in the name of the file: for several series, missing or
    contradictory position, orientation, spacing or shape, gaps, duplicates, and pixel data that cannot be decoded.
    """
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        volume = _read(Path(path))
    departures = sum(issubclass(remark.category, UserWarning) for remark in remarks)
    if not departures:
        return volume
    notice = f"{departures} departures from the DICOM standard, in the header or the length of the pixel data"
    return Volume(volume.data, volume.geometry, volume.modality, (*volume.notices, notice))


def is_film(dataset: Dataset) -> bool:
    """Whether this header describes a projection (2D) rather than a slice of a body."""
    modality = str(dataset.get("Modality", ""))
    placed = "ImagePositionPatient" in dataset or "ImageOrientationPatient" in dataset
    return modality in _PROJECTIONS or not (placed or modality in _SLICED)


def _read(path: Path) -> Volume:
    found, notices = headers(path)
    first = found[0]
    return _film(path, found, notices) if is_film(first.dataset) else _slices(found, notices)


def _slices(found: tuple[Header, ...], notices: tuple[str, ...]) -> Volume:
    ordered, geometry, remarks = stack(found)
    planes = np.empty(geometry.shape[::-1], np.float32)
    repairs: dict[str, None] = {}
    for plane, header in zip(planes, ordered, strict=True):
        values, done = modality_values(header, film=False)
        plane[...] = values
        repairs |= dict.fromkeys(done)
    data = torch.from_numpy(np.ascontiguousarray(planes.T))[None]
    return Volume(data, geometry, _modality(found), (*notices, *remarks, *repairs))


def _film(path: Path, found: tuple[Header, ...], notices: tuple[str, ...]) -> Volume:
    if len(found) > 1:
        raise InputError(
            f"{path}: the folder holds several films.",
            expected="one image without patient position",
            found=", ".join(h.path.name for h in found[:5]),
            remedy="Give the path of one file.",
        )
    with blaming(found[0].path):
        geometry, remarks = film_geometry(found[0])
    values, done = modality_values(found[0], film=True)
    data = torch.from_numpy(values)[None]
    return Volume(data, geometry, _modality(found), (*notices, *remarks, *done))


def _modality(found: tuple[Header, ...]) -> str:
    return str(found[0].dataset.get("Modality", ""))
