"""MHA, MHD and NRRD through SimpleITK: arrays (i, j, k) in 3D, (row, column) in 2D; the LPS world becomes RAS.

Never used for DICOM or NIfTI, which ITK repairs and guesses at in silence.
"""

import gzip
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medxai.core.geometry import Geometry
from medxai.core.volume import Volume
from medxai.errors import InputError
from medxai.io.content import GZIP, blaming, read_bytes

Array = NDArray[Any]

_NRRD = (".nrrd", ".nhdr")
_HEADER = 65536
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
    _verify(path)
    try:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in _NRRD else "MetaImageIO")
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
        return _volume(image, channels, path.suffix.lower() in _NRRD)


def _verify(path: Path) -> None:
    """ITK accepts compressed voxels whose checksum is wrong; unpacking them here refuses them."""
    content = read_bytes(path)
    packed = b""
    if content.startswith(b"NRRD") and re.search(rb"^encoding: *gz", content[:_HEADER], re.M):
        packed = content.partition(b"\n\n")[2]
    elif re.search(rb"^CompressedData *= *True", content[:_HEADER], re.M):
        packed = re.split(rb"^ElementDataFile *= *LOCAL\r?\n", content, maxsplit=1, flags=re.M)[-1]
    if not packed or packed is content:
        return
    try:
        gzip.decompress(packed) if packed.startswith(GZIP) else zlib.decompress(packed)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{path}: the compressed voxels are truncated or damaged.", found=str(error), remedy="Copy it again."
        ) from error


def _volume(image: Any, channels: Array, nrrd: bool) -> Volume:
    size = image.GetDimension()
    lps = np.eye(4)
    lps[:size, :size] = np.reshape(image.GetDirection(), (size, size)) * np.array(image.GetSpacing())
    lps[:size, 3] = image.GetOrigin()
    if size == 2:
        lps[:, :2] = lps[:, 1::-1]
    else:
        channels = channels.transpose(0, 3, 2, 1)
    data = np.array(channels, _WIDER.get(channels.dtype.name, channels.dtype), order="C")
    placed = size == 2 or not nrrd or image.HasMetaDataKey("NRRD_space")
    return Volume(
        torch.from_numpy(data),
        Geometry.from_lps(lps, data.shape[1:], "mm" if placed else "unknown"),
        notices=() if placed else ("header names no space: the grid is not in the patient",),
    )
