"""An address phantom as NIfTI-1 bytes, and the same bytes with one header field changed."""

import nibabel as nib
import numpy as np
from nibabel.nifti1 import header_dtype

from medxai.shapes import Affine
from tests.io.phantoms import address

OFFSET = 352
AFFINE = np.array([[-0.7, 0.0, 0.0, 40.0], [0.0, 0.9, 0.0, -30.0], [0.0, 0.0, 2.5, 11.0], [0.0, 0.0, 0.0, 1.0]])


def phantom(affine: Affine = AFFINE, voxels: np.ndarray | None = None) -> bytes:
    """A NIfTI-1 file in millimetres whose sform and qform agree."""
    data = address() if voxels is None else voxels
    image = nib.Nifti1Image(data, None, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    image.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    return bytes(image.to_bytes())


def changed(content: bytes, **fields: object) -> bytes:
    """The file with these header fields, by NIfTI's names; a dictionary changes single entries of an array field."""
    header = np.frombuffer(content[:348], np.dtype(header_dtype).newbyteorder("<")).copy()
    for name, value in fields.items():
        if isinstance(value, dict):
            for index, entry in value.items():
                header[name][0, index] = entry
        else:
            header[name] = value
    return header.tobytes() + content[348:]
