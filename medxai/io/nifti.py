"""NIfTI-1 and NIfTI-2 files: voxels in the unit of the modality, array axes as stored, affine to RAS+ millimetres.

The sform is the affine where its code is set, else the qform. Where both codes are 0 the file says nothing about the
patient: the grid is then axis-aligned at the origin, with pixdim for steps, and of unknown units.

A file whose `descrip` is `PIXEL_FRAME`, as `write_nifti` marks its maps on a grid of unknown units, states a matrix and
no patient: its grid is of unknown units too.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medxai.core.geometry import Geometry, Units
from medxai.core.volume import Volume
from medxai.errors import InputError
from medxai.io.content import blaming, read_bytes
from medxai.shapes import Affine

Array = NDArray[Any]

PIXEL_FRAME = b"pixel frame of the source image, no patient space"

_MM = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}
_AGREE_MM = 0.1
_WIDER = {"uint16": np.int32, "uint32": np.int64, "float64": np.float32, "longdouble": np.float32}


def read_nifti(path: str | Path) -> Volume:
    """The one 3D (or 2D) image of a NIfTI file; integers stay integers unless the header scales them.

    Raises `InputError` for a damaged or truncated file, for more than one volume, for colour or complex voxels, and
    where qform and sform place a corner more than 0.1 mm apart.
    """
    path = Path(path)
    image = _parsed(path, read_bytes(path))
    shape = _shape(path, image.shape)
    with blaming(path):
        affine, units, notices = _affine(path, image.header, shape)
        geometry = Geometry(affine, shape, units)
    return Volume(torch.from_numpy(_voxels(path, image, shape)[None]), geometry, notices=notices)


def _parsed(path: Path, content: bytes) -> Any:
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    kind, magic = _kind(content)
    if magic not in (b"n+1\0", b"n+2\0"):
        raise InputError(
            f"{path}: not a NIfTI file of one piece.",
            expected="a header of 348 or 540 bytes marked n+1 or n+2",
            found="a header marked " + repr(magic.rstrip(b"\0").decode("latin-1")) if kind else "no NIfTI header",
            remedy="Convert .hdr/.img pairs and Analyze files (whose orientation is undefined) to .nii first.",
        )
    try:
        image = getattr(nib, kind).from_bytes(content)
        needed = image.dataobj.offset + int(np.prod(image.shape, dtype=np.int64)) * image.get_data_dtype().itemsize
    except (HeaderDataError, ImageFileError, ValueError, OSError, KeyError, OverflowError) as error:
        raise InputError(f"{path}: the NIfTI header is malformed.", found=str(error)) from error
    if not 0 < needed <= len(content):
        raise InputError(
            f"{path}: the file ends before its voxels do.",
            expected=f"{needed} bytes",
            found=f"{len(content)} bytes",
            remedy="Copy or download it again.",
        )
    return image


def _kind(content: bytes) -> tuple[str, bytes]:
    size = content[:4]
    if size in ((348).to_bytes(4, "little"), (348).to_bytes(4, "big")):
        return "Nifti1Image", content[344:348]
    if size in ((540).to_bytes(4, "little"), (540).to_bytes(4, "big")):
        return "Nifti2Image", content[4:8]
    return "", b""


def is_nifti(start: bytes) -> bool:
    """Whether these first bytes (unpacked) are the header of a NIfTI or Analyze file."""
    return bool(_kind(start)[0])


def _shape(path: Path, stored: tuple[int, ...]) -> tuple[int, ...]:
    shape = tuple(int(n) for n in stored)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3):
        raise InputError(
            f"{path}: this is not one 2D or 3D image.",
            expected="two or three axes (further axes of length one are dropped)",
            found=f"shape {tuple(stored)}",
            remedy="Save each volume to its own file.",
        )
    return shape


def _affine(path: Path, header: Any, shape: tuple[int, ...]) -> tuple[Affine, Units, tuple[str, ...]]:
    unit = _unit(path, header)
    scale = np.diag([_MM.get(unit, 1.0)] * 3 + [1.0])
    coded = {"sform": header.get_sform(coded=True)[0], "qform": header.get_qform(coded=True)[0]}
    found = {name: scale @ np.asarray(affine, np.float64) for name, affine in coded.items() if affine is not None}
    if not found:
        return scale @ _steps(header), "unknown", ("header states no patient orientation: grid is not in the patient",)
    if len(found) == 2:
        _refuse_quarrel(path, found, shape)
    if header["descrip"].item() == PIXEL_FRAME:
        return next(iter(found.values())), "unknown", ("header states a pixel frame: grid is not in the patient",)
    notices = {
        "mm": (),
        "unknown": ("header states no unit of length: millimetres assumed",),
    }.get(unit, (f"header is in units of {unit}: converted to millimetres",))
    return next(iter(found.values())), "mm", notices


def _unit(path: Path, header: Any) -> str:
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError as error:
        raise InputError(f"{path}: the unit of length is no NIfTI code.", found=f"xyzt_units {error}") from error


def _steps(header: Any) -> Affine:
    steps = np.abs(np.asarray(header["pixdim"][1:4], np.float64))
    return np.diag([*np.where(steps > 0, steps, 1.0), 1.0])


def _refuse_quarrel(path: Path, found: dict[str, Affine], shape: tuple[int, ...]) -> None:
    corners = np.array([(*c, 1.0) for c in product(*[(0, n - 1) for n in (*shape, 1)[:3]])])
    apart = float(np.linalg.norm(corners @ (found["sform"] - found["qform"]).T, axis=1).max())
    if not apart <= _AGREE_MM:
        raise InputError(
            f"{path}: sform and qform place the image differently, {apart:.3g} mm apart at a corner.",
            expected=f"at most {_AGREE_MM} mm",
            found=f"sform {found['sform'][:3].round(4).tolist()}, qform {found['qform'][:3].round(4).tolist()}",
            remedy="Set the code of the wrong one to 0 (nibabel: set_qform(None) or set_sform(None)).",
        )


def _voxels(path: Path, image: Any, shape: tuple[int, ...]) -> Array:
    stored = image.get_data_dtype()
    if stored.kind not in "iuf":
        raise InputError(
            f"{path}: voxels are neither integers nor real numbers.",
            expected="one number per voxel",
            found=str(stored),
            remedy="Save magnitude, or one channel, to its own file.",
        )
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)
    array = np.asarray(image.dataobj if scaled else image.dataobj.get_unscaled()).reshape(shape)
    return _torch_ready(path, array.astype(np.float32) if scaled else array)


def _torch_ready(path: Path, array: Array) -> Array:
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if native.dtype == np.uint64 and native.max() > np.iinfo(np.int64).max:
        raise InputError(f"{path}: integers beyond 2^63 - 1 cannot be kept exactly.", found=f"{native.max()}")
    wider = np.int64 if native.dtype == np.uint64 else _WIDER.get(native.dtype.name, native.dtype)
    result = np.array(native, wider, order="C")
    if result.dtype.kind == "f" and not np.array_equal(np.isinf(result), np.isinf(native)):
        raise InputError(f"{path}: values exceed the range of float32.", found=f"up to {np.abs(native).max():.3g}")
    return result
