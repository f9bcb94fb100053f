"""Dispatch, masks and cases: content decides, several labels are never one, channels share one grid."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image

from medxai.errors import InputError, MaskError
from medxai.io.read import load_case, merge, read_mask, read_volume
from tests.io.phantoms import address, farthest_mm, random_affine, right_handed, write_series
from tests.unprivileged import folder, locked

GRID = np.diag([-0.7, -0.9, 2.5, 1.0])


def nifti(path: Path, data: np.ndarray, affine: np.ndarray = GRID) -> Path:
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def test_one_image_in_every_format_is_one_volume(tmp_path: Path) -> None:
    affine = right_handed(random_affine(7))
    nifti(tmp_path / "a.nii.gz", address(), affine)
    write_series(tmp_path / "series", address(), affine)
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    paths = [tmp_path / "a.nii.gz", tmp_path / "series"]
    for name in ("a.mha", "a.nrrd", "a.mhd"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        paths.append(tmp_path / name)
    for path in paths:
        volume = read_volume(path)
        assert farthest_mm(volume, affine) < 1e-3, path
        assert sorted(volume.data.flatten().tolist()) == sorted(address().ravel().tolist())


def test_content_outranks_the_name(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", address()).rename(tmp_path / "a.png")
    volume = read_volume(tmp_path / "a.png")
    assert farthest_mm(volume, GRID) < 1e-3
    assert "content followed" in volume.notices[0]
    nifti(tmp_path / "a.nii.gz", address()).rename(tmp_path / "b.nii")
    assert farthest_mm(read_volume(tmp_path / "b.nii"), GRID) < 1e-3
    [slice_] = write_series(tmp_path / "s", address((7, 5, 1)), GRID)
    Path(slice_.filename).rename(tmp_path / "no_suffix")
    assert read_volume(tmp_path / "no_suffix").modality == "CT"


def test_the_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_volume(tmp_path / "absent.nii")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InputError, match=r"a\.txt.*known format"):
        read_volume(tmp_path / "a.txt")
    (tmp_path / "a.dcm").write_text("hello")
    with pytest.raises(InputError, match=r"a\.dcm.*no DICM mark"):
        read_volume(tmp_path / "a.dcm")


def test_spacing_is_for_images_that_state_none(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png")
    volume = read_volume(tmp_path / "a.png", spacing=(0.5, 0.2))
    assert volume.geometry.spacing_mm == (0.5, 0.2)
    assert "given by the user" in volume.notices[0]
    with pytest.raises(InputError, match="has its own"):
        read_volume(nifti(tmp_path / "a.nii", address()), spacing=(1.0, 1.0))
    nib.save(nib.Nifti1Image(address(), None), tmp_path / "nowhere.nii")
    with pytest.raises(InputError, match=r"nowhere\.nii: spacing is for pictures and films.*unknown units.*sform"):
        read_volume(tmp_path / "nowhere.nii", spacing=(1.0, 1.0))
    assert read_mask(tmp_path / "a.png", spacing=(0.5, 0.2)).geometry == volume.geometry


def test_one_value_is_a_mask_and_several_need_a_label(tmp_path: Path) -> None:
    labels = (address() % 3).astype(np.uint8)
    path = nifti(tmp_path / "m.nii", labels)
    with pytest.raises(MaskError, match=r"several labels.*Found 1, 2\..*label=N"):
        read_mask(path)
    assert np.array_equal(read_mask(path, 2).data.numpy(), labels == 2)
    absent = read_mask(path, 9)
    assert not absent.data.any()
    assert "no voxel has label 9, of 0, 1, 2: mask is empty" in absent.notices[-1]
    with pytest.raises(MaskError, match="background"):
        read_mask(path, 0)
    single = read_mask(nifti(tmp_path / "s.nii", (labels == 2).astype(np.uint8) * 255))
    assert np.array_equal(single.data.numpy(), labels == 2)
    assert "255" in single.notices[-1]
    assert single.geometry.same(read_volume(path).geometry)
    empty = read_mask(nifti(tmp_path / "e.nii", np.zeros((4, 4, 4), np.uint8)))
    assert not empty.data.any()
    assert empty.notices == ("M03: mask is empty",)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_a_label_that_the_type_cannot_hold_is_absent(tmp_path: Path, dtype: str) -> None:
    data = np.array([[[44, 255, 0]]]).astype(dtype)
    path = nifti(tmp_path / "m.nii", data)
    for label in (300, -1, 44 + 2**16, 44 + 2**32, 44 + 2**40, 2**70, -(2**70)):
        mask = read_mask(path, label)
        assert not mask.data.any(), label
        assert f"no voxel has label {label}" in mask.notices[-1]
    assert read_mask(path, 44).data.tolist() == [[[True, False, False]]]
    assert read_mask(path, 255).data.tolist() == [[[False, True, False]]]
    large = nifti(tmp_path / "l.nii", np.array([[[2.0**24, 0, 0]]], np.float32))
    assert not read_mask(large, 2**24 + 1).data.any()


def test_soft_and_coloured_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"integers.*0\.5"):
        read_mask(nifti(tmp_path / "f.nii", np.array([[[0, 0.5, 1.0]]], np.float32)))
    for label in (None, 1):
        with pytest.raises(MaskError, match=r"integers.*0\.25, 0\.5\."):
            read_mask(nifti(tmp_path / "g.nii", np.array([[[0.5, 0.25, 1.0, 0.5]]], np.float32)), label)
        for value in (np.nan, np.inf):
            with pytest.raises(InputError, match=r"N12.*1 of 3 NaN or infinite"):
                read_mask(nifti(tmp_path / "n.nii", np.array([[[0, value, 1.0]]], np.float32)), label)
    Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3)).save(tmp_path / "c.png")
    with pytest.raises(MaskError, match="3 channels"):
        read_mask(tmp_path / "c.png")
    whole = read_mask(nifti(tmp_path / "w.nii", np.array([[[0, 4.0, 4.0]]], np.float32)))
    assert whole.data.tolist() == [[[False, True, True]]]


def test_images_become_channels_of_one_grid(tmp_path: Path) -> None:
    first = nifti(tmp_path / "a.nii", address())
    second = nifti(tmp_path / "b.nii", address().astype(np.float32) / 2)
    mask = read_mask(first, 5)
    case = load_case(first, second, masks={"tumour": mask}, case_id="p1")
    assert case.image.data.shape == (2, 7, 5, 4)
    assert torch.equal(case.image.data[1], torch.from_numpy(address() / 2).float())
    assert (case.id, case.masks["tumour"]) == ("p1", mask)
    moved = GRID.copy()
    moved[0, 3] = 0.25
    with pytest.raises(InputError, match=r"c\.nii.*0\.25 mm apart"):
        load_case(first, nifti(tmp_path / "c.nii", address(), moved))
    with pytest.raises(InputError, match="another size"):
        load_case(first, nifti(tmp_path / "d.nii", address()[1:]))
    with pytest.raises(InputError, match="needs an image"):
        load_case()
    close = GRID.copy()
    close[0, 3] = 5e-4
    assert load_case(first, nifti(tmp_path / "e.nii", address(), close)).image.data.shape[0] == 2


def test_a_single_image_is_its_own_volume(tmp_path: Path) -> None:
    volume = read_volume(nifti(tmp_path / "a.nii", address()))
    assert merge([volume], [tmp_path / "a.nii"]) is volume


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_file_given_twice_is_told(tmp_path: Path, dtype: type) -> None:
    data = address().astype(dtype)
    first, second = nifti(tmp_path / "a.nii", data), nifti(tmp_path / "b.nii", data + dtype(1))
    assert load_case(first, second).image.notices == ()
    assert load_case(first, second, first).image.notices == ("channels 1 and 3 hold the same voxels",)
    assert len(load_case(first, first, first).image.notices) == 3


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd", "a.png", "a.dcm", "a"])
def test_what_one_may_not_read_is_refused_by_name(name: str) -> None:
    with folder() as place:
        path = place / name
        path.write_bytes(b"anything")
        with locked(path, 0o000), pytest.raises(InputError, match=rf"^\[D64\].*{name}.*Permission denied"):
            read_volume(path)
