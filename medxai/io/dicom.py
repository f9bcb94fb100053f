"""DICOM: one film, one slice, or the folder of one series; voxels are modality values (HU for CT), float32.

A CR, DX or similar film is 2D, (row, column). Slices are 3D, (i = column, j = row, k = slice), sorted by position
along their normal; a single slice is one slice-thickness deep. Positions come from the headers alone, checked before
any pixel is decoded; InstanceNumber and file names are never looked at.
"""

from pathlib import Path

import numpy as np
import torch
from pydicom import Dataset

from medxai.core.geometry import Geometry
from medxai.core.volume import Volume
from medxai.errors import InputError
from medxai.io.content import blaming
from medxai.io.dicom_files import Header, headers
from medxai.io.dicom_geometry import film_geometry, stack
from medxai.io.dicom_pixels import modality_values

_SLICED = {"CT", "MR", "PT", "NM", "OPT", "RTDOSE"}


def read_dicom(path: str | Path) -> Volume:
    """The film, slice or series at `path`, right to 1e-3 mm.

    Raises `InputError` (a bad grid: `GeometryError`) in the name of the file: for several series, missing or
    contradictory position, orientation, spacing or shape, gaps, duplicates, and pixel data that cannot be decoded.
    """
    path = Path(path)
    found, notices = headers(path)
    first = found[0]
    if is_film(first.dataset):
        return _film(path, found, notices)
    ordered, geometry, remarks = stack(found)
    planes = np.empty(geometry.shape[::-1], np.float32)
    repairs: dict[str, None] = {}
    for plane, header in zip(planes, ordered, strict=True):
        values, done = modality_values(header, film=False)
        plane[...] = values
        repairs |= dict.fromkeys(done)
    data = torch.from_numpy(np.ascontiguousarray(planes.T))[None]
    modality = str(first.dataset.get("Modality", ""))
    return Volume(data, geometry, modality, (*notices, *remarks, *repairs))


def is_film(dataset: Dataset) -> bool:
    """Whether this header describes a projection (2D) rather than a slice of a body."""
    placed = "ImagePositionPatient" in dataset or "ImageOrientationPatient" in dataset
    return not placed and str(dataset.get("Modality", "")) not in _SLICED


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
    return Volume(data, _checked(geometry, values.shape), _modality(found), (*notices, *remarks, *done))


def _checked(geometry: Geometry, shape: tuple[int, ...]) -> Geometry:
    return Geometry(geometry.affine, shape, geometry.units)


def _modality(found: tuple[Header, ...]) -> str:
    return str(found[0].dataset.get("Modality", ""))
