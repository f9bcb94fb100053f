"""Values on their way from files to tensors: none changes unseen, none is NaN unless that is permitted."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.options import ReadOptions

Array = NDArray[Any]

_WIDER = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64, "float64": np.float32, "longdouble": np.float32}
_EXACT = 2**24  # float32 holds every integer up to here


def torch_ready(path: Path, array: Array) -> Array:
    """The same values in a type that PyTorch has: unsigned integers wider, float64 rounded to float32.

    float64 that is really integers beyond 2^24, as of a label map, becomes int64. Raises `InputError` for values that
    no such type holds.
    """
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if native.dtype == np.uint64 and native.size and native.max() > np.iinfo(np.int64).max:
        raise InputError(
            f"{path}: integers this large cannot be kept exactly.",
            expected="at most 2^63 - 1",
            found=f"{native.max()}",
            code="N28",
        )
    wider: Any = _WIDER.get(native.dtype.name, native.dtype)
    if wider is np.float32 and _large_integers(native):
        wider = np.int64
    with np.errstate(over="ignore"):
        result: Array = np.array(native, wider, order="C")
    if result.dtype.kind == "f" and not np.array_equal(np.isinf(result), np.isinf(native)):
        raise InputError(
            f"{path}: values exceed the range of float32.",
            expected=f"at most {np.finfo(np.float32).max:.3g}",
            found=f"up to {np.abs(native[np.isfinite(native)]).max():.3g}",
            remedy="Scale them and save the file again.",
            code="N28",
        )
    return result


def finite(path: Path, array: Array, options: ReadOptions) -> tuple[Array, tuple[str, ...]]:
    """The values, none of them NaN or infinite, and what there is to notice about them.

    Raises `InputError` for NaN and infinity, unless `options.nan` says what takes their place.
    """
    if array.dtype.kind != "f":
        return array, _about_size(array)
    broken = ~np.isfinite(array)
    count = int(np.count_nonzero(broken))
    if not count:
        return array, _about_size(array)
    if options.nan is None or not np.isfinite(np.float32(options.nan)):
        first = tuple(int(n) for n in np.argwhere(broken)[0])
        raise InputError(
            f"{path}: some voxels are no numbers.",
            expected="finite values",
            found=f"{count} of {array.size} NaN or infinite, the first at index {first}",
            remedy="Say what takes their place with nan=... (--nan 0), or repair the file.",
            code="N12",
        )
    return np.where(broken, array.dtype.type(options.nan), array), (
        notice("N12", f"{count} voxels that were NaN or infinite set to {options.nan:g}, as the user chose"),
    )


def _large_integers(values: Array) -> bool:
    largest = np.abs(values).max(initial=0, where=np.isfinite(values))
    return bool(_EXACT < largest < 2**63) and bool(np.array_equal(values, np.trunc(values)))


def _about_size(array: Array) -> tuple[str, ...]:
    """What looks like numbers read under a wrong type: integers that float32 cannot hold, floats below its normal."""
    if not array.size:
        return ()
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2:
        large = max(-int(array.min()), int(array.max())) > _EXACT
        return (notice("N28", "integers beyond 2^24, which float32 cannot tell apart"),) if large else ()
    tiny = array.dtype.kind == "f" and 0 < float(np.abs(array).max()) < np.finfo(np.float32).tiny
    return (notice("N26", "all values are subnormal: the data type may be wrong"),) if tiny else ()
