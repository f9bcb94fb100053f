"""MHA, MHD and NRRD through SimpleITK: arrays (i, j, k) in 3D, (row, column) in 2D; the LPS world becomes RAS.

Never used for DICOM or NIfTI, which ITK repairs and guesses at in silence.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medxai.core.geometry import Geometry
from medxai.core.volume import Volume
from medxai.errors import InputError
from medxai.io.content import blaming

Array = NDArray[Any]

_WIDER = {"uint16": np.int32, "uint32": np.int64, "float64": np.float32}


def is_itk(start: bytes) -> bool:
    """Whether these first bytes begin a NRRD or MetaImage header."""
    return start.startswith(b"NRRD0") or (start[:12].lstrip().startswith((b"ObjectType", b"NDims")))


def read_itk(path: str | Path) -> Volume:
    """The 2D or 3D image of a MetaImage or NRRD file; vector components become channels.

    Raises `InputError` for unreadable or truncated files, other dimensions and complex voxels.
    """
    import SimpleITK

    path = Path(path)
    try:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"{path}: the file cannot be read as MetaImage or NRRD.",
            found=str(error).strip().splitlines()[-1][:200],
            remedy="Restore the file (and the data file that its header names).",
        ) from error
    if image.GetDimension() not in (2, 3) or "complex" in image.GetPixelIDTypeAsString():
        raise InputError(
            f"{path}: not one 2D or 3D image of real numbers.",
            found=f"{image.GetDimension()} axes of {image.GetPixelIDTypeAsString()}",
            remedy="Save each volume to its own file.",
        )
    array = SimpleITK.GetArrayFromImage(image)
    channels = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    with blaming(path):
        return _volume(image, channels)


def _volume(image: Any, channels: Array) -> Volume:
    size = image.GetDimension()
    lps = np.eye(4)
    lps[:size, :size] = np.reshape(image.GetDirection(), (size, size)) * np.array(image.GetSpacing())
    lps[:size, 3] = image.GetOrigin()
    if size == 2:
        lps[:, :2] = lps[:, 1::-1]
    else:
        channels = channels.transpose(0, 3, 2, 1)
    data = np.array(channels, _WIDER.get(channels.dtype.name, channels.dtype), order="C")
    return Volume(torch.from_numpy(data), Geometry.from_lps(lps, data.shape[1:]))
