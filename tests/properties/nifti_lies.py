"""One changed header field, or a few changed bytes, of an address phantom, and whether what is read is a lie."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from nibabel.nifti1 import header_dtype

from medxai.core.volume import Volume
from medxai.errors import MedxaiError
from medxai.io.nifti import read_nifti
from tests.io.nifti_phantom import changed, phantom
from tests.io.phantoms import address, farthest_mm, random_affine

TOLERANCE_MM = 0.11  # qform and sform may differ by 0.1 mm, and float32 adds a little
FIELDS: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
    name: (dtype.base, dtype.shape)
    for name, (dtype, *_rest) in np.dtype(header_dtype).fields.items()  # type: ignore[union-attr]
}
_SPECIAL = (0, 1, -1, 2, 3, 7, 8, 127, 255, 256, 348, 352, 540, 32767, -32768, 2**31 - 1, -(2**31))
_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.1, 1e-30, 1e30, 352.0, float("nan"), float("inf"), float("-inf"))


def _value(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    if dtype.kind == "S":
        return st.binary(max_size=dtype.itemsize)
    if dtype.kind == "f":
        return st.one_of(st.sampled_from(_FLOATS), st.floats(width=32), st.floats(-10, 10, width=32))
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    fitting = [v for v in _SPECIAL if low <= v <= high]
    return st.one_of(st.sampled_from(fitting), st.integers(low, high), st.integers(0, 32))


@st.composite
def one_field(draw: st.DrawFn) -> tuple[str, int | None, Any]:
    """A field of the header, the entry of it where it is an array, and a value for it."""
    name = draw(st.sampled_from(sorted(FIELDS)))
    dtype, shape = FIELDS[name]
    index = draw(st.integers(0, shape[0] - 1)) if shape else None
    return name, index, draw(_value(dtype))


def mutated(seed: int, change: tuple[str, int | None, Any], packed: bool) -> tuple[bytes, np.ndarray, bytes]:
    """The file, the true affine, and the unpacked file."""
    affine = random_affine(seed)
    name, index, value = change
    with np.errstate(over="ignore"):
        content = changed(phantom(affine), **{name: value if index is None else {index: value}})
    return (gzip.compress(content, 1, mtime=0) if packed else content), affine, content


def outcome(path: Path, content: bytes, affine: np.ndarray, plain: bytes) -> str:
    """One of refused, told and right, else what is wrong with what was read. Other exceptions escape."""
    path.write_bytes(content)
    try:
        volume = read_nifti(path)
    except MedxaiError as error:
        return "refused" if error.code and str(path) in str(error) else f"a refusal without code or file: {error}"
    return "told" if volume.notices else _wrong(volume, affine, plain) or "right"


def _wrong(volume: Volume, affine: np.ndarray, plain: bytes) -> str:
    header = np.frombuffer(plain[:348], np.dtype(header_dtype).newbyteorder("<"))[0]
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    scaled = np.isfinite(slope) and slope != 0
    expected = (address() * slope + inter).astype(np.float32) if scaled else address()
    if volume.data[0].shape != expected.shape or not np.array_equal(volume.data[0].numpy(), expected):
        return "other voxels than those of the file"
    truth = Volume(volume.data.new_tensor(address()[None]), volume.geometry)
    apart = farthest_mm(truth, affine)
    return "" if apart <= TOLERANCE_MM else f"voxels up to {apart:.3g} mm from where they are"
