"""DICOM that cannot be placed is refused, in the name of the file and with a way out, never guessed."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

from medxai.errors import InputError, MedxaiError
from medxai.io.dicom import read_dicom
from tests.io.phantoms import address, write_series

GRID = np.array([[-0.7, 0, 0, -20], [0, -0.9, 0, 30], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])
Change = Callable[[list[FileDataset]], None]


def set_one(keyword: str, value: object) -> Change:
    return lambda slices: setattr(slices[1], keyword, value)


def drop(*keywords: str, which: slice = slice(1, 2)) -> Change:
    def change(slices: list[FileDataset]) -> None:
        for dataset in slices[which]:
            for keyword in keywords:
                delattr(dataset, keyword)

    return change


EVERY = slice(None)
CASES: dict[str, tuple[Change, str]] = {
    "two series": (set_one("SeriesInstanceUID", generate_uid()), "holds 2 series"),
    "position missing": (drop("ImagePositionPatient"), "ImagePositionPatient is missing"),
    "no position at all": (drop("ImagePositionPatient", which=EVERY), "ImagePositionPatient is missing"),
    "orientation missing": (drop("ImageOrientationPatient"), "ImageOrientationPatient is missing"),
    "no orientation at all": (drop("ImageOrientationPatient", which=EVERY), "ImageOrientationPatient is missing"),
    "spacing missing": (drop("PixelSpacing", which=EVERY), "PixelSpacing is missing"),
    "spacing zero": (
        lambda slices: [setattr(s, "PixelSpacing", [0, 1]) for s in slices],
        r"PixelSpacing .* is not pos",
    ),
    "spacing differs": (set_one("PixelSpacing", [0.9, 0.8]), "PixelSpacing differs"),
    "orientation differs": (set_one("ImageOrientationPatient", [1, 0, 0, 0, 0, -1]), "ImageOrientationPatient differs"),
    "skewed axes": (
        lambda slices: [setattr(s, "ImageOrientationPatient", [1, 0, 0, 0.1, 0.995, 0]) for s in slices],
        "perpendicular unit vectors",
    ),
    "two frames of reference": (set_one("FrameOfReferenceUID", generate_uid()), "FrameOfReferenceUID differs"),
    "same plane": (
        lambda slices: setattr(slices[1], "ImagePositionPatient", slices[2].ImagePositionPatient),
        "same plane",
    ),
    "rescale in some": (drop("RescaleSlope", "RescaleIntercept"), r"whether values are rescaled .* differs"),
    "slope zero": (set_one("RescaleSlope", 0), "erases the image"),
    "pixels cut": (lambda slices: setattr(slices[1], "PixelData", slices[1].PixelData[:-10]), "pixel data are shorter"),
    "colour": (set_one("PhotometricInterpretation", "PALETTE COLOR"), "PhotometricInterpretation differs"),
    "many frames": (set_one("NumberOfFrames", 3), "3 frames without a place"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_file_and_remedy(tmp_path: Path, name: str) -> None:
    change, words = CASES[name]
    written = write_series(tmp_path / "series", address(), GRID)
    change(written)
    for dataset in written:
        dataset.save_as(dataset.filename)
    with pytest.raises(InputError, match=words) as refusal:
        read_dicom(tmp_path / "series")
    message = str(refusal.value)
    assert str(tmp_path / "series") in message
    assert "CANARY" not in message
    assert message.rstrip().endswith(".")


def test_a_gap_is_refused_with_the_step_and_its_files(tmp_path: Path) -> None:
    written = write_series(tmp_path / "series", address((7, 5, 6)), GRID)
    Path(written[3].filename).unlink()
    with pytest.raises(InputError, match=r"not evenly spaced.*2\.5.*to 5 mm.*resample") as refusal:
        read_dicom(tmp_path / "series")
    assert Path(written[2].filename).name in str(refusal.value)
    assert Path(written[4].filename).name in str(refusal.value)


def test_a_slice_of_another_shape_is_refused(tmp_path: Path) -> None:
    written = write_series(tmp_path / "series", address(), GRID)
    written[0].Rows, written[0].PixelData = 4, written[0].PixelData[: 4 * 7 * 2]
    written[0].save_as(written[0].filename)
    with pytest.raises(InputError, match="shape differs"):
        read_dicom(tmp_path / "series")


def test_a_single_slice_without_thickness_is_refused(tmp_path: Path) -> None:
    [dataset] = write_series(tmp_path / "series", address((7, 5, 1)), GRID)
    del dataset.SliceThickness
    dataset.save_as(dataset.filename)
    with pytest.raises(InputError, match=r"SliceThickness.*whole series"):
        read_dicom(Path(dataset.filename))


UNUSABLE = [b"1\\2\\3 ", b"abc ", b"1\\abc ", b"nan ", b"1e999 ", b"\x01\x00\x02\x00\x03\x00"]


@pytest.mark.parametrize("keyword", ["SliceThickness", "Rows", "Columns", "NumberOfFrames", "RescaleSlope"])
@pytest.mark.parametrize("value", UNUSABLE)
def test_a_number_that_is_none_or_several_is_refused(tmp_path: Path, keyword: str, value: bytes) -> None:
    [dataset] = write_series(tmp_path, address((7, 5, 1)), GRID)
    kind = {"Rows": "US", "Columns": "US", "NumberOfFrames": "IS"}.get(keyword, "DS")
    tag = Tag(tag_for_keyword(keyword))
    whole = dcmread(dataset.filename)
    whole[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
    whole.save_as(dataset.filename)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=Path(dataset.filename).name):
            read_dicom(dataset.filename)


def test_files_cut_anywhere_are_refused_by_name(tmp_path: Path) -> None:
    written = write_series(tmp_path / "series", address(), GRID)
    victim = Path(written[2].filename)
    whole = victim.read_bytes()
    for length in (0, 100, 140, 300, 700, len(whole) - 40):
        victim.write_bytes(whole[:length])
        with pytest.raises(MedxaiError, match=victim.name):
            read_dicom(tmp_path / "series")


def test_empty_and_foreign_folders_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no DICOM image"):
        read_dicom(tmp_path)
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(InputError, match="1 other files"):
        read_dicom(tmp_path)
    with pytest.raises(InputError, match="no DICM mark"):
        read_dicom(tmp_path / "readme.txt")
    with pytest.raises(InputError, match="absent"):
        read_dicom(tmp_path / "absent.dcm")
