"""Every file that pydicom brings along: refused with a code, or equal to what pydicom itself makes of its pixels."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from medxai.core.volume import Volume
from medxai.errors import MedxaiError
from medxai.io.dicom import read_dicom
from medxai.io.options import ReadOptions
from tests.io.dicom.make import BUNDLED

LUMA = np.array([0.299, 0.587, 0.114])
FILES = sorted(path for path in BUNDLED.iterdir() if path.suffix == ".dcm")
ROUNDED_CHROMA = 2.0


def expected(dataset: Dataset) -> NDArray[np.float64] | None:
    """(row, column) or (frame, row, column) values, where pydicom alone can tell them."""
    if dataset.PhotometricInterpretation in {"MONOCHROME1", "PALETTE COLOR"} or "ModalityLUTSequence" in dataset:
        return None
    try:
        array = dataset.pixel_array
    except RuntimeError:
        return None
    array = array @ LUMA if int(dataset.SamplesPerPixel) == 3 else array
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return np.asarray(array * float(dataset.get("DoseGridScaling") or slope) + intercept)


def read(path: Path) -> tuple[Volume | None, MedxaiError | None]:
    try:
        return read_dicom(path, ReadOptions(gray=True)), None
    except MedxaiError as refusal:
        return None, refusal


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_bundled_file_is_refused_or_read_as_pydicom_does(path: Path) -> None:
    volume, refusal = read(path)
    if volume is None:
        assert refusal is not None
        assert refusal.code
        assert path.name in str(refusal)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(path, force=True)
        theirs = expected(dataset)
    if theirs is None:
        return
    ours = volume.data[0].numpy()
    ours = ours if ours.ndim == 2 else ours.transpose(2, 1, 0).reshape(theirs.shape)
    tolerance = ROUNDED_CHROMA if int(dataset.SamplesPerPixel) == 3 else 0.0
    assert np.abs(ours - theirs).max() <= tolerance + 1e-6 * np.abs(theirs).max()


def test_ordinary_files_are_among_those_read() -> None:
    names = ("CT_small.dcm", "rtdose_expb.dcm", "image_dfl.dcm", "examples_jpeg2k.dcm", "examples_palette.dcm")
    assert all(read(BUNDLED / name)[0] is not None for name in names)


def test_values_are_rescaled_by_the_functional_groups(data_dir: Callable[[str], Path]) -> None:
    path = data_dir("dicom/pydicom_data") / "eCT_Supplemental.dcm"
    dataset = dcmread(path)
    values = dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    stored = dataset.pixel_array * float(values.RescaleSlope) + float(values.RescaleIntercept)
    volume = read_dicom(path)
    assert [f.PlanePositionSequence[0].ImagePositionPatient[2] for f in dataset.PerFrameFunctionalGroupsSequence] == [
        -159,
        -149,
    ]
    ordered = stored[::-1].transpose(2, 1, 0)  # row x column points to the feet
    assert np.array_equal(volume.data[0].numpy(), ordered)
    assert volume.geometry.lps[2, 3] == -149
