"""The DICOM inputs, and the truth about each."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import dcmread

from benchmarks.corpus.judge import RIGHT_MM, Array, Input, Judge, Verdict, by_address, unknown
from medxai.io.options import DEFAULT
from tests.io.dicom.make import BUNDLED
from tests.io.dicom.rows import ROWS

UNJUDGED = {"D09", "D41", "D42", "D45"}
"""Rows where another answer than ours may be right: pixels that are not the phantom, colour kept, dose not scaled."""

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
        judged, phantom = row.code not in UNJUDGED, row.placed or row.fate == "refused"
        judge = by_address(np.array(row.grid)) if judged and phantom else unknown
        yield Input("generated DICOM", f"{row.code} {row.name}", path, judge, judged and not phantom)


def bundled() -> Iterator[Input]:
    """The files inside pydicom."""
    for path in sorted(BUNDLED.rglob("*")):
        if path.is_file() and path.suffix not in {".py", ".txt", ".md", ".json", ".dump", ".icc"}:
            yield Input("pydicom", str(path.relative_to(BUNDLED)), path, pydicom_judge(path))


def real() -> Iterator[Input]:
    """The series of $MEDXAI_TEST_DATA."""
    root = Path(os.environ.get("MEDXAI_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "dicom"
    folders = ("ge_head_gantry_tilt", "totalseg_ct_j2k/series", "dcmqi/ct-3slice", "dcmqi/23x38x3/image")
    for name in (*folders, "dcmqi/24x38x3/image", "rt_utils/oriented_data", "rt_utils/mock_data"):
        if (root / name).is_dir():
            yield Input("real", name, root / name, _position_judge(root / name))
    for path in sorted(root.glob("*/*")):
        if path.is_file() and path.suffix == ".dcm" and path.parent.name not in {"ge_head_gantry_tilt"}:
            yield Input("real", str(path.relative_to(root)), path, pydicom_judge(path))


def fuzzed() -> Iterator[Input]:
    """A public corpus of malformed files, where $MEDXAI_FUZZ_CORPUS names a copy of it."""
    root = os.environ.get("MEDXAI_FUZZ_CORPUS")
    for path in sorted(Path(root).rglob("*.dcm")) if root else ():
        yield Input("fuzz corpus", str(path.relative_to(str(root))), path, unknown)


def pydicom_judge(path: Path) -> Judge:
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


def _position_judge(folder: Path) -> Judge:
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
