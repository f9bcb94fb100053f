"""NIfTI: every voxel where its header puts it, every contradiction and every damage refused."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medxai.errors import GeometryError, InputError
from medxai.io.nifti import read_nifti
from tests.io.phantoms import SHAPE, address, farthest_mm, random_affine


def save(path: Path, data: np.ndarray, affine: np.ndarray | None, kind: type = nib.Nifti1Image) -> nib.Nifti1Image:
    image = kind(data, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return image


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_every_voxel_lies_where_its_address_says(tmp_path: Path, seed: int, name: str) -> None:
    affine = random_affine(seed, shear=0.3 * (seed % 2))
    image = nib.Nifti1Image(address(), None)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    nib.save(image, tmp_path / name)
    volume = read_nifti(tmp_path / name)
    assert farthest_mm(volume, affine) < 1e-3
    assert volume.data.dtype == torch.int16
    assert volume.notices == ()


def test_qform_alone_sform_alone_big_endian_and_nifti_2_agree(tmp_path: Path) -> None:
    affine = random_affine(3)
    sform = nib.Nifti1Image(address(), None)
    sform.set_sform(affine, 2)
    qform = nib.Nifti1Image(address(), None)
    qform.set_qform(affine, 1)
    swapped = nib.Nifti1Image(address().astype(">i2"), None, nib.Nifti1Header(endianness=">"))
    swapped.set_data_dtype(np.int16)
    swapped.set_sform(affine, 1)
    second = nib.Nifti2Image(address(), affine)
    for image in (sform, qform, swapped, second):
        image.header.set_xyzt_units("mm")
        image.header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
        nib.save(image, tmp_path / "a.nii")
        volume = read_nifti(tmp_path / "a.nii")
        assert farthest_mm(volume, affine) < 1e-3
        assert volume.data.dtype == torch.int16


def test_sform_and_qform_apart_are_refused_and_both_named(tmp_path: Path) -> None:
    image = save(tmp_path / "a.nii", address(), np.diag([2.0, 2.0, 2.0, 1.0]))
    moved = np.diag([2.0, 2.0, 2.0, 1.0])
    moved[0, 3] = 0.2
    image.set_qform(moved, 1)
    image.set_sform(np.diag([2.0, 2.0, 2.0, 1.0]), 1)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(GeometryError, match=r"a\.nii.*0\.2 mm.*sform.*qform"):
        read_nifti(tmp_path / "a.nii")
    moved[0, 3] = 0.05
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").geometry.affine[0, 3] == 0.0


def test_without_codes_nothing_is_claimed_about_the_patient(tmp_path: Path) -> None:
    image = nib.Nifti1Image(address(), None)
    image.header["pixdim"][1:4] = 2, 3, 4
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    assert volume.geometry.units == "unknown"
    assert volume.geometry.spacing == (2.0, 3.0, 4.0)
    assert "no patient orientation" in volume.notices[0]
    with pytest.raises(GeometryError):
        _ = volume.geometry.spacing_mm


def test_stale_rows_behind_a_code_of_zero_are_not_believed(tmp_path: Path) -> None:
    image = nib.Nifti1Image(address(), None)
    image.header["pixdim"][1:4] = 2, 3, 4
    image.set_sform(random_affine(1), code=0)
    nib.save(image, tmp_path / "a.nii")
    assert np.array_equal(read_nifti(tmp_path / "a.nii").geometry.affine, np.diag([2.0, 3.0, 4.0, 1.0]))


def test_codes_without_a_unit_are_millimetres_with_a_notice(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(address(), np.diag([0.25, 0.5, 2.0, 1.0])), tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    assert volume.geometry.spacing_mm == (0.25, 0.5, 2.0)
    assert "millimetres assumed" in volume.notices[0]


@pytest.mark.parametrize(("unit", "scale"), [("meter", 1000.0), ("micron", 0.001)])
def test_units_become_millimetres_and_are_noticed(tmp_path: Path, unit: str, scale: float) -> None:
    image = nib.Nifti1Image(address(), np.diag([0.25, 0.5, 2.0, 1.0]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    assert volume.geometry.spacing_mm == pytest.approx((0.25 * scale, 0.5 * scale, 2.0 * scale))
    assert unit in volume.notices[0]


def test_scaled_integers_become_their_values(tmp_path: Path) -> None:
    image = nib.Nifti1Image(address(), np.eye(4))
    image.header.set_slope_inter(0.5, -1024)
    raw = image.to_bytes()
    header = nib.Nifti1Image.from_bytes(raw).header
    assert header["scl_slope"] != 0
    content = bytearray(raw)
    content[112:120] = np.array([0.5, -1024], "<f4").tobytes()
    content[352:] = address().tobytes(order="F")
    (tmp_path / "a.nii").write_bytes(bytes(content))
    volume = read_nifti(tmp_path / "a.nii")
    assert volume.data.dtype == torch.float32
    assert np.array_equal(volume.data[0].numpy(), address() * 0.5 - 1024)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint16", "uint32", "int64", "float32", "float64"])
def test_no_type_changes_a_value(tmp_path: Path, dtype: str) -> None:
    data = address().astype(dtype)
    data[0, 0, 0] = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 0.25
    nib.save(nib.Nifti1Image(data, np.eye(4), dtype=dtype), tmp_path / "a.nii")
    read = read_nifti(tmp_path / "a.nii").data[0]
    assert read.is_floating_point() == (np.dtype(dtype).kind == "f")
    assert np.array_equal(read.numpy().astype(dtype), data)


def test_a_singleton_fourth_axis_is_dropped_and_a_longer_one_refused(tmp_path: Path) -> None:
    save(tmp_path / "one.nii", address()[..., None], np.eye(4))
    assert read_nifti(tmp_path / "one.nii").geometry.shape == SHAPE
    save(tmp_path / "two.nii", np.stack([address()] * 2, -1), np.eye(4))
    with pytest.raises(InputError, match="not one 2D or 3D image"):
        read_nifti(tmp_path / "two.nii")


def test_damage_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path / "good.nii.gz", address(), np.eye(4))
    packed = (tmp_path / "good.nii.gz").read_bytes()
    plain = gzip.decompress(packed)
    flipped = bytearray(packed)
    flipped[-6] ^= 0xFF
    hurt = {
        "checksum.nii.gz": bytes(flipped),
        "cut.nii.gz": packed[:-20],
        "cut.nii": plain[:-20],
        "empty.nii": b"",
        "page.nii": b"<html>sorry</html>" * 40,
        "header.nii": plain[:200],
    }
    for name, content in hurt.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_nifti(tmp_path / name)


def test_pairs_colour_and_complex_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(address(), np.eye(4)), tmp_path / "pair.hdr")
    with pytest.raises(InputError, match="one piece"):
        read_nifti(tmp_path / "pair.hdr")
    nib.save(nib.Nifti1Image(address().astype(np.complex64), np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(InputError, match="neither integers nor real"):
        read_nifti(tmp_path / "c.nii")
    colour = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), tmp_path / "rgb.nii")
    with pytest.raises(InputError, match="neither integers nor real"):
        read_nifti(tmp_path / "rgb.nii")


def test_a_singular_sform_names_the_file(tmp_path: Path) -> None:
    image = nib.Nifti1Image(address(), None)
    image.set_sform(np.diag([1.0, 0.0, 1.0, 1.0]), 1)
    image.header["pixdim"][1:4] = 1
    nib.save(image, tmp_path / "flat.nii")
    with pytest.raises(GeometryError, match=r"flat\.nii.*singular"):
        read_nifti(tmp_path / "flat.nii")
