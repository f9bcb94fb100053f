"""Films: two axes, inverted exactly once where they ask for it, no millimetre that nobody stated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset, Sequence, dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from medxai.errors import GeometryError, InputError
from medxai.io.codes import codes
from medxai.io.dicom import read_dicom
from tests.io.phantoms import ct_slice

ROWS = (np.arange(12, dtype=np.int16) * 300).reshape(3, 4)
LEFT_AND_BACK = np.array([[0, -0.2, 0, 0], [-0.5, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def film(path: Path, **facts: object) -> FileDataset:
    dataset = ct_slice(ROWS.T, np.eye(4), 0, generate_uid(), generate_uid())
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "PixelSpacing"):
        delattr(dataset, keyword)
    dataset.Modality, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = "DX", 12, 11, 0
    for keyword, value in facts.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def test_a_film_is_row_and_column_by_the_convention(tmp_path: Path) -> None:
    film(tmp_path / "f.dcm", PixelSpacing=[0.5, 0.2])
    volume = read_dicom(tmp_path / "f.dcm")
    assert np.array_equal(volume.data[0].numpy(), ROWS)
    assert np.array_equal(volume.geometry.affine, LEFT_AND_BACK)
    assert (volume.modality, codes(volume.notices)) == ("DX", ("D13",))


def test_detector_spacing_is_told_and_missing_spacing_unknown(tmp_path: Path) -> None:
    for facts in ({"ImagerPixelSpacing": [0.5, 0.2]}, {"ImagerPixelSpacing": [0.5, 0.2], "PixelSpacing": [0.5, 0.2]}):
        film(tmp_path / "f.dcm", **facts)
        volume = read_dicom(tmp_path / "f.dcm")
        assert volume.geometry.spacing_mm == (0.5, 0.2)
        assert "detector plane" in volume.notices[0]
    film(tmp_path / "f.dcm", ImagerPixelSpacing=[0.5, 0.2], PixelSpacing=[0.4, 0.16])
    assert read_dicom(tmp_path / "f.dcm").geometry.spacing_mm == (0.4, 0.16)
    film(tmp_path / "f.dcm")
    volume = read_dicom(tmp_path / "f.dcm")
    assert volume.geometry.units == "unknown"
    with pytest.raises(GeometryError):
        _ = volume.geometry.spacing_mm


def test_monochrome1_is_inverted_once_before_rescaling(tmp_path: Path) -> None:
    film(tmp_path / "f.dcm", PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=-5)
    volume = read_dicom(tmp_path / "f.dcm")
    assert np.array_equal(volume.data[0].numpy(), (4095 - ROWS) * 2.0 - 5)
    assert volume.notices[-1] == "D31: MONOCHROME1 inverted"


def test_a_negative_and_its_positive_are_one_image(tmp_path: Path) -> None:
    film(tmp_path / "positive.dcm", PixelSpacing=[1, 1])
    negative = np.ascontiguousarray(4095 - ROWS).astype(np.uint16).tobytes()
    film(tmp_path / "negative.dcm", PixelSpacing=[1, 1], PhotometricInterpretation="MONOCHROME1", PixelData=negative)
    assert torch.equal(read_dicom(tmp_path / "positive.dcm").data, read_dicom(tmp_path / "negative.dcm").data)


def test_signed_films_are_inverted_within_their_range(tmp_path: Path) -> None:
    stored = (ROWS - 2000).astype(np.int16)
    facts = {"PhotometricInterpretation": "MONOCHROME1", "PixelRepresentation": 1, "PixelData": stored.tobytes()}
    film(tmp_path / "f.dcm", **facts)
    assert np.array_equal(read_dicom(tmp_path / "f.dcm").data[0].numpy(), -1.0 - stored)


def test_a_film_with_a_place_in_the_patient_keeps_it(tmp_path: Path) -> None:
    facts = {"ImagePositionPatient": [10, 20, 30], "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    film(tmp_path / "f.dcm", PixelSpacing=[0.5, 0.2], **facts)
    geometry = read_dicom(tmp_path / "f.dcm").geometry
    assert geometry.shape == (3, 4)
    expected = [[0, -0.2, 0, -10], [0, 0, -1, -20], [-0.5, 0, 0, 30], [0, 0, 0, 1]]
    assert np.abs(geometry.affine - np.array(expected)).max() < 1e-12


def test_several_films_in_a_folder_are_refused(tmp_path: Path) -> None:
    series = generate_uid()
    for name in ("a.dcm", "b.dcm"):
        film(tmp_path / name, SeriesInstanceUID=series)
    with pytest.raises(InputError, match=r"several films.*a\.dcm, b\.dcm"):
        read_dicom(tmp_path)


def test_a_lookup_table_gives_the_values(tmp_path: Path, data_dir) -> None:
    path = data_dir("dicom/pydicom_data") / "mlut_18.dcm"
    volume = read_dicom(path)
    dataset = dcmread(path)
    table = dataset.ModalityLUTSequence[0]
    first = table.LUTDescriptor[1]
    expected = np.array(table.LUTData)[np.clip(dataset.pixel_array.astype(int) - first, 0, len(table.LUTData) - 1)]
    assert np.array_equal(volume.data[0].numpy(), expected)
    assert "D33: modality lookup table applied" in volume.notices


def squares(path: Path, values: list[int], **facts: object) -> FileDataset:
    """A film whose lookup table squares: stored v in 0..255 stands for v * v + 10."""
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [256, 0, 16])
    table.add_new("LUTData", "US", values)
    table.ModalityLUTType = "US"
    stored = np.array([[0, 20, 100, 255], [7, 8, 9, 300]], np.uint16)
    facts = {"Rows": 2, "Columns": 4, "PixelData": stored.tobytes(), "ModalityLUTSequence": Sequence([table])} | facts
    return film(path, **facts)


def test_a_negative_with_a_curved_table_is_inverted_after_it(tmp_path: Path) -> None:
    table = [v * v + 10 for v in range(256)]
    through = np.array([[0, 400, 10000, 65025], [49, 64, 81, 65025]]) + 10
    squares(tmp_path / "positive.dcm", table)
    assert np.array_equal(read_dicom(tmp_path / "positive.dcm").data[0].numpy(), through)
    squares(tmp_path / "negative.dcm", table, PhotometricInterpretation="MONOCHROME1")
    volume = read_dicom(tmp_path / "negative.dcm")
    assert np.array_equal(volume.data[0].numpy(), 65035 + 10 - through)
    assert volume.notices[-2:] == ("D31: MONOCHROME1 inverted", "D33: modality lookup table applied")


def test_a_table_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    squares(tmp_path / "short.dcm", [1, 2, 3])
    with pytest.raises(InputError, match=r"short\.dcm.*lookup table is malformed"):
        read_dicom(tmp_path / "short.dcm")
