"""The inputs, and the truth about each."""

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from medxai.io.options import DEFAULT
from tests.io.dicom.make import BUNDLED
from tests.io.dicom.rows import ROWS, Row

Array = NDArray[Any]
Verdict = bool | None
"""Right, wrong, or unknown."""

UNJUDGED = {"D09", "D41", "D42", "D45"}
"""Rows where another answer than ours may be right: pixels that are not the phantom, colour kept, dose not scaled."""

LARGEST = 10**6
RIGHT_MM = 0.1
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Input:
    """A path to read; `judge(voxels, affine)` says whether an answer is right.

    With `like_medxai`, the truth is the answer of medxai, which tests/io/dicom prove by closed forms.
    """

    group: str
    name: str
    path: Path
    judge: Callable[[Array, Array], Verdict]
    like_medxai: bool = False


def generated(folder: Path) -> Iterator[Input]:
    """The rows of docs/bad_inputs.md that need no permission."""
    for n, row in enumerate(row for row in ROWS if row.options == DEFAULT):
        place = folder / f"{n:03d}"
        place.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = row.build(place)
        if path.is_relative_to(BUNDLED):
            continue
        by_address = row.placed or row.fate == "refused"
        judge = _address_judge(row) if by_address and row.code not in UNJUDGED else unknown
        yield Input("generated", f"{row.code} {row.name}", path, judge, not by_address and row.code not in UNJUDGED)


def bundled() -> Iterator[Input]:
    """The files inside pydicom."""
    for path in sorted(BUNDLED.rglob("*")):
        if path.is_file() and path.suffix not in {".py", ".txt", ".md", ".json", ".dump", ".icc"}:
            yield Input("pydicom", str(path.relative_to(BUNDLED)), path, _pydicom_judge(path))


def real() -> Iterator[Input]:
    """The series of $MEDXAI_TEST_DATA."""
    root = Path(os.environ.get("MEDXAI_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "dicom"
    folders = ("ge_head_gantry_tilt", "totalseg_ct_j2k/series", "dcmqi/ct-3slice", "dcmqi/23x38x3/image")
    for name in (*folders, "dcmqi/24x38x3/image", "rt_utils/oriented_data", "rt_utils/mock_data"):
        if (root / name).is_dir():
            yield Input("real", name, root / name, _position_judge(root / name))
    for path in sorted(root.glob("*/*")):
        if path.is_file() and path.suffix == ".dcm" and path.parent.name not in {"ge_head_gantry_tilt"}:
            yield Input("real", str(path.relative_to(root)), path, _pydicom_judge(path))


def fuzzed() -> Iterator[Input]:
    """A public corpus of malformed files, where $MEDXAI_FUZZ_CORPUS names a copy of it."""
    root = os.environ.get("MEDXAI_FUZZ_CORPUS")
    for path in sorted(Path(root).rglob("*.dcm")) if root else ():
        yield Input("fuzz corpus", str(path.relative_to(str(root))), path, unknown)


def unknown(voxels: Array, affine: Array) -> Verdict:  # noqa: ARG001
    """No truth is known."""
    return None


def _address_judge(row: Row) -> Callable[[Array, Array], Verdict]:
    grid = np.array(row.grid)

    def judge(voxels: Array, affine: Array) -> Verdict:
        stack = voxels if voxels.ndim == 3 else voxels[..., None]
        if stack.size > LARGEST or not np.isfinite(stack).all():
            return False
        codes = np.rint(stack).astype(np.int64)
        unique = len(np.unique(codes)) == codes.size and codes.size % (7 * 5) == 0
        address = np.stack([codes % 16, codes // 16 % 16, codes // 256], -1)
        truth = address @ grid[:3, :3].T + grid[:3, 3]
        index = np.stack(np.meshgrid(*[np.arange(n) for n in codes.shape], indexing="ij"), -1)
        said = index @ affine[:3, :3].T + affine[:3, 3]
        exact = np.abs(stack - codes).max() < 1e-3
        return bool(unique and exact and np.linalg.norm(said - truth, axis=-1).max() < RIGHT_MM)

    return judge


def _pydicom_judge(path: Path) -> Callable[[Array, Array], Verdict]:
    """Whether the values are, in whatever order of axes, those that pydicom decodes and rescales."""

    def judge(voxels: Array, affine: Array) -> Verdict:  # noqa: ARG001
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = _decoded(path)
        if theirs is None:
            return None
        if voxels.size != theirs[0].size:
            return False
        ours = np.sort(voxels, axis=None)
        return any(bool(np.allclose(ours, np.sort(truth, axis=None), rtol=1e-6, atol=1e-3)) for truth in theirs)

    return judge


def _decoded(path: Path) -> tuple[Array, ...] | None:
    """The values; of a dose also the stored ones, for a reader may leave DoseGridScaling to its caller."""
    try:
        dataset = dcmread(path)
        if dataset.SamplesPerPixel != 1 or dataset.PhotometricInterpretation == "PALETTE COLOR":
            return None
        if dataset.get("ModalityLUTSequence") or "SharedFunctionalGroupsSequence" in dataset:
            return None
        stored = dataset.pixel_array.astype(np.float64)
    except Exception:
        return None
    if "DoseGridScaling" in dataset:
        return stored, stored * float(dataset.DoseGridScaling)
    if dataset.PhotometricInterpretation == "MONOCHROME1" and dataset.Modality in {"CR", "DX"}:
        stored = 2 ** int(dataset.BitsStored) - 1 - stored
    slope, intercept = (dataset.get(word) for word in ("RescaleSlope", "RescaleIntercept"))
    return (stored * float(1 if slope is None else slope) + float(intercept or 0),)


def _position_judge(folder: Path) -> Callable[[Array, Array], Verdict]:
    """Whether there is a slice at the position of every file, and no other."""
    headers = [dcmread(path, stop_before_pixels=True, force=True) for path in folder.iterdir() if path.is_file()]
    positions = np.array([h.ImagePositionPatient for h in headers if "Rows" in h], np.float64) @ LPS_RAS[:3, :3]

    def judge(voxels: Array, affine: Array) -> Verdict:
        if voxels.ndim != 3 or voxels.shape[2] != len(positions):
            return False
        corners = np.stack([affine[:3, 2] * k + affine[:3, 3] for k in range(voxels.shape[2])])
        apart = np.linalg.norm(positions[:, None] - corners[None], axis=-1).min(axis=1)
        return bool(apart.max() < RIGHT_MM)

    return judge
