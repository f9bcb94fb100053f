"""Writing that succeeds whole or leaves nothing: temporary file beside the target, flushed, re-read, then renamed."""

import gzip
import json
import math
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medxai.core.geometry import Geometry
from medxai.errors import WriteError
from medxai.io.nifti import PIXEL_FRAME
from medxai.shapes import Affine, Map

_TEMPORARY = re.compile(r"\.(\d+)\.[0-9a-f]{16}\.part")
_QFORM_MM = 0.1
_LARGEST_AXIS = 32767
_INTENT_LENGTH = 15


def made_folder(path: str | Path) -> Path:
    """The folder of that name, made where it was missing. Raises `WriteError`."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error.strerror or type(error).__name__) from error
    return path


def refuse_unwritable(path: str | Path) -> None:
    """Raise `WriteError` where a folder of that name can be neither written nor made; nothing is made."""
    path = Path(path)
    whole = path.absolute()
    nearest = next(one for one in (whole, *whole.parents) if os.access(one, os.F_OK))
    if not nearest.is_dir():
        raise _unwritable(path, f"no folder, but a file: {nearest}")
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise _unwritable(path, f"{nearest}, which you may not write to")


def _unwritable(path: Path, found: str) -> WriteError:
    return WriteError(
        f"{path}: results cannot be written there.",
        found=found,
        remedy="Name a folder that exists or can be made, and that you may write to.",
    )


def write_file(path: str | Path, data: bytes) -> None:
    """`path` holds exactly `data`, or what it held before; no other file remains.

    The bytes go to a temporary file of the same folder, are flushed to the disk, read back and compared, and only
    then take the name; the folder is flushed too. What a killed process left unfinished is cleared away. Raises
    `WriteError` for whatever prevents it.
    """
    path = Path(path)
    temporary = path.parent / f".{os.getpid()}.{secrets.token_hex(8)}.part"
    try:
        _clear_abandoned(path.parent)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if temporary.read_bytes() != data:
            raise WriteError(f"{path}: what was read back is not what was written.", remedy="Check the disk.")
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise WriteError(
            f"{path}: the file cannot be written.",
            found=error.strerror or type(error).__name__,
            remedy="Check that the folder exists, that you may write there and that the disk has room.",
        ) from error
    finally:
        with suppress(OSError):  # where it could not be made, it cannot be removed
            temporary.unlink(missing_ok=True)


def _clear_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that are no more."""
    for path in folder.glob(".*.part"):
        process = _TEMPORARY.fullmatch(path.name)
        if process and not Path(f"/proc/{process[1]}").exists() and Path("/proc/self").exists():
            path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_file(path: Path) -> None:
    """No file of that name is left, e.g. of an earlier case. Raises `WriteError`."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(
            f"{path}: an earlier result cannot be removed.",
            found=error.strerror or type(error).__name__,
            remedy="Name another folder, or make this one writable.",
        ) from error


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """The mapping as UTF-8 JSON in its own order; NaN (undefined) becomes null, infinities the texts inf and -inf."""
    try:
        text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WriteError(f"{path}: this content is no JSON.", found=str(error)) from error
    write_file(path, f"{text}\n".encode())


def write_nifti(
    path: str | Path,
    data: Map,
    geometry: Geometry,
    *,
    intent_name: str = "",
    limits: tuple[float, float] | None = None,
) -> None:
    """A map as float32 NIfTI-1 with slope 1 on the grid `geometry`; a 2D map is (rows, columns, 1).

    In mm the sform holds the affine (code 1); the qform too, where it can within 0.1 mm at every corner, else its code
    is 0 (a sheared grid). A grid of unknown units claims no scanner space, and `read_nifti` gives it back as unknown:
    steps along the axes from the origin, as of a NIfTI source without codes, have codes 0, so every program lays map
    and source alike; another matrix (a picture's) is in the sform with code 2, aligned to another file, which is the
    picture as ITK lays it, and `descrip` says that it is no patient space.
    `limits` are cal_min and cal_max. Of the intent name NIfTI keeps 15 characters. The header names nobody. The same
    values give the same bytes.
    """
    path = Path(path)
    compress = path.name.endswith(".gz")
    if not path.name.removesuffix(".gz").endswith(".nii"):
        raise WriteError(f"{path}: not a NIfTI name.", expected="a name ending in .nii or .nii.gz")
    if tuple(data.shape) != geometry.shape:
        raise WriteError(f"{path}: map and grid differ.", expected=f"{geometry.shape}", found=f"{tuple(data.shape)}")
    array = data.detach().cpu().numpy().astype(np.float32).reshape(geometry.shape3)
    content = _nifti(path, array, geometry, intent_name, limits)
    write_file(path, gzip.compress(content, compresslevel=6, mtime=0) if compress else content)


def _nifti(
    path: Path,
    array: NDArray[np.float32],
    geometry: Geometry,
    intent_name: str,
    limits: tuple[float, float] | None,
) -> bytes:
    import nibabel as nib

    if max(array.shape) > _LARGEST_AXIS or not intent_name.isascii():
        raise WriteError(
            f"{path}: NIfTI-1 cannot hold this.",
            expected=f"axes up to {_LARGEST_AXIS}, an ASCII intent name",
            found=f"shape {array.shape}, intent name {intent_name!r}",
        )
    image = nib.Nifti1Image(array, None)
    header = image.header
    header.set_data_dtype(np.float32)
    header.set_slope_inter(1.0, 0.0)
    header.set_xyzt_units("mm" if geometry.units == "mm" else "unknown")
    header.set_intent("estimate", name=intent_name[:_INTENT_LENGTH])
    if limits is not None:
        header["cal_min"], header["cal_max"] = limits
    _place(header, geometry)
    return bytes(image.to_bytes())


def _place(header: Any, geometry: Geometry) -> None:
    affine = geometry.affine
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    header["pixdim"][1:4] = steps
    if geometry.units == "unknown":
        if not np.array_equal(affine, np.diag([*steps, 1.0])):
            header.set_sform(affine, code=2)
            header["descrip"] = PIXEL_FRAME
        return
    header.set_qform(affine, code=1, strip_shears=True)
    if _farthest(np.asarray(header.get_qform(), np.float64), geometry) > _QFORM_MM:
        header["qform_code"] = 0
        for field in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
            header[field] = 0
        header["pixdim"][0] = 1
    header.set_sform(affine, code=1)


def _farthest(affine: Affine, geometry: Geometry) -> float:
    return Geometry(affine, geometry.shape3, geometry.units).distance(geometry)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value
