"""Real scans: right grids, values that other readers confirm where they are right, refusals where nobody can know."""

from collections.abc import Callable
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image
from pydicom import dcmread
from pydicom.uid import CTImageStorage

from medxai.errors import InputError
from medxai.io.codes import codes
from medxai.io.dicom import read_dicom
from medxai.io.read import load_case, read_mask, read_volume

Find = Callable[[str], Path]


def test_a_jpeg2000_ct_and_its_labels_meet_in_the_patient(data_dir: Find) -> None:
    folder = data_dir("dicom/totalseg_ct_j2k")
    volume = read_dicom(folder / "series")
    labels = read_mask(folder / "example_seg_dicom.nii.gz", label=_most_common(folder / "example_seg_dicom.nii.gz"))
    assert volume.geometry.shape == labels.geometry.shape
    assert (volume.geometry.axcodes, labels.geometry.axcodes) == ("LPS", "LAS")
    turned = volume.geometry.affine @ np.array([[1, 0, 0, 0], [0, -1, 0, 511], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    assert np.abs(turned - labels.geometry.affine).max() < 1e-3
    inside = volume.data[0].flip(1)[labels.data]
    assert float(inside.median()) > -200


def _most_common(path: Path) -> int:
    values, counts = np.unique(np.asarray(nib.load(path).dataobj), return_counts=True)
    return int(values[1:][counts[1:].argmax()])


@pytest.mark.parametrize(
    "name", ["dicom/totalseg_ct_j2k/series", "dicom/dcmqi/ct-3slice", "dicom/rt_utils/oriented_data"]
)
def test_the_grid_is_that_of_highdicom_and_the_values_too(data_dir: Find, name: str) -> None:
    folder = data_dir(name)
    ours = read_dicom(folder)
    files = [dataset for path in sorted(folder.iterdir()) if "Rows" in (dataset := dcmread(path))]
    for dataset in files:  # highdicom wants these stated, the geometry does not depend on them
        dataset.FrameOfReferenceUID = dataset.get("FrameOfReferenceUID") or "1.2.3"
        dataset.SOPClassUID = dataset.get("SOPClassUID") or CTImageStorage
    theirs = highdicom.get_volume_from_series(files)
    array, affine = theirs.array, theirs.affine
    if np.dot(affine[:3, 0], ours.geometry.lps[:3, 2]) < 0:
        affine = affine @ np.array([[-1, 0, 0, len(array) - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        array = array[::-1]
    assert np.abs(affine[:, [2, 1, 0, 3]] - ours.geometry.lps).max() < 1e-3
    assert np.allclose(array.transpose(2, 1, 0), ours.data[0].numpy(), rtol=1e-6, atol=1e-4)


def test_voxels_are_those_of_simpleitk_where_it_is_right(data_dir: Find) -> None:
    folder = data_dir("dicom/dcmqi/ct-3slice")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs = SimpleITK.GetArrayFromImage(reader.Execute()).T
    assert np.array_equal(read_dicom(folder).data[0].numpy(), theirs)


def test_a_tilted_uneven_head_is_refused_with_its_steps(data_dir: Find) -> None:
    with pytest.raises(InputError, match=r"not evenly spaced.*from 1\.081 to 6\.999 mm.*resample"):
        read_dicom(data_dir("dicom/ge_head_gantry_tilt"))


def test_the_evenly_spaced_part_of_the_tilted_head_is_kept_sheared(data_dir: Find, tmp_path: Path) -> None:
    slices = sorted(data_dir("dicom/ge_head_gantry_tilt").glob("*.dcm"), key=_height)
    steps = np.diff([_height(path) for path in slices])
    start = next(n for n in range(len(steps)) if np.abs(steps[n : n + 4] - steps[n]).max() < 0.01)
    for path in slices[start : start + 5]:
        (tmp_path / path.name).symlink_to(path)
    volume = read_dicom(tmp_path)
    assert any("tilted gantry" in notice for notice in volume.notices)
    for k, path in enumerate(slices[start : start + 5]):
        position = np.array(dcmread(path, stop_before_pixels=True).ImagePositionPatient, float) * [-1, -1, 1]
        assert np.linalg.norm(volume.geometry.world(np.array([0.0, 0.0, k])) - position) < 0.02


def _height(path: Path) -> float:
    header = dcmread(path, stop_before_pixels=True)
    row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    return float(np.cross(row, column) @ np.array(header.ImagePositionPatient, float))


def test_a_film_and_its_relabelled_copy_are_negatives(data_dir: Find) -> None:
    """The copy keeps the pixels and only claims MONOCHROME1, so read rightly it is the negative of the film."""
    folder = data_dir("cxr/siim_dicom")
    [original] = [path for path in folder.glob("*.dcm") if not path.name.startswith("Fake")]
    film, relabelled = read_volume(original), read_volume(folder / "Fake_MONOCHROME1.dcm")
    assert film.geometry == relabelled.geometry
    assert film.geometry.spacing_mm == (0.168, 0.168)
    assert torch.equal(film.data, 255 - relabelled.data)
    assert np.array_equal(film.data[0].numpy(), dcmread(original).pixel_array)
    assert codes(relabelled.notices) == ("D13", "D12", "D62", "D31")


def test_a_true_photometric_twin_is_the_same_film(data_dir: Find, tmp_path: Path) -> None:
    [original] = [path for path in data_dir("cxr/siim_dicom").glob("*.dcm") if not path.name.startswith("Fake")]
    dataset = dcmread(original)
    dataset.decompress()
    dataset.PixelData = (255 - dataset.pixel_array).tobytes()
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.save_as(tmp_path / "twin.dcm")
    film, twin = read_volume(original), read_volume(tmp_path / "twin.dcm")
    assert torch.equal(film.data, twin.data)
    assert film.digest == twin.digest


def test_a_detector_film_with_monochrome1(data_dir: Find) -> None:
    path = data_dir("dicom/highdicom") / "dx_image.dcm"
    volume, stored = read_dicom(path), dcmread(path).pixel_array
    assert np.array_equal(volume.data[0].numpy(), 255.0 - stored)
    assert volume.geometry.shape == (169, 211)
    assert volume.geometry.spacing_mm == pytest.approx((1.2, 1.2012), abs=1e-6)
    assert codes(volume.notices) == ("D18", "D13", "D32", "D31")


def test_ordinary_volumes_are_where_nibabel_says(data_dir: Find) -> None:
    names = ["mri/totalseg_mr/example_mr_sm.nii.gz", "mri/brainchop/t1_crop.nii.gz", "ct/totalseg/example_ct_sm.nii.gz"]
    for name in names:
        path = data_dir(Path(name).parent.as_posix()) / Path(name).name
        volume, theirs = read_volume(path), nib.load(path)
        assert np.abs(volume.geometry.affine - theirs.affine).max() < 1e-6
        assert np.array_equal(volume.data[0].numpy(), np.asarray(theirs.dataobj))
        assert volume.notices == ("N11: header states no unit of length: millimetres assumed",)


def test_nodules_and_their_masks_share_grids(data_dir: Find) -> None:
    folder = data_dir("ct/lidc_voi")
    for image in sorted((folder / "image").glob("*.nii.gz"))[:25]:
        case = load_case(image, masks={"nodule": read_mask(folder / "nodule_mask" / image.name)})
        assert case.masks["nodule"].geometry.same(case.image.geometry)
        assert case.masks["nodule"].data.any()
        assert case.image.data.dtype == torch.int16


def test_two_sequences_and_their_labels_are_one_case(data_dir: Find) -> None:
    folder = data_dir("mri/brats2013/brats_2013_pat0005_1")
    case = load_case(folder / "Flair_subtrMeanDivStd.nii.gz", folder / "T1c_subtrMeanDivStd.nii.gz")
    assert case.image.data.shape == (2, 240, 240, 155)
    tumour = read_mask(folder / "OTMultiClass.nii.gz", label=4)
    assert tumour.geometry.same(case.image.geometry)
    assert tumour.data.any()


def test_an_nih_film_is_a_picture_of_unknown_size(data_dir: Find) -> None:
    path = data_dir("cxr/nih") / "00000001_000.png"
    volume = read_volume(path)
    assert volume.geometry.units == "unknown"
    with Image.open(path) as picture:
        assert np.array_equal(volume.data[0].numpy(), np.asarray(picture))
