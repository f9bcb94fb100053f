"""Writing: whole or not at all; the same values give the same bytes; the affine survives nibabel and SimpleITK."""

import gzip
import json
import os
import resource
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image

from medxai.core.geometry import Geometry
from medxai.errors import WriteError
from medxai.io.nifti import read_nifti
from medxai.io.picture import read_picture
from medxai.io.write import write_file, write_json, write_nifti
from tests.io.phantoms import LPS_RAS, random_affine

SHAPE = (9, 8, 7)
DATA = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


def others(folder: Path, path: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p != path]


def test_bytes_arrive_and_nothing_else_remains(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert others(tmp_path, path) == []
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_file(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"a\.bin.*File too large"):
            write_file(path, bytes(3_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert others(tmp_path, path) == []


def test_where_no_file_can_go_none_is_left(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"absent.*cannot be written.*folder exists"):
        write_file(tmp_path / "absent" / "a.bin", b"x")
    (tmp_path / "taken").mkdir()
    with pytest.raises(WriteError, match="taken"):
        write_file(tmp_path / "taken", b"x")
    assert others(tmp_path, tmp_path / "taken") == []
    assert list((tmp_path / "taken").iterdir()) == []


def test_damage_on_the_way_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda self: b"something else")
    with pytest.raises(WriteError, match="read back"):
        write_file(tmp_path / "a.bin", b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_the_affine_survives_both_readers(tmp_path: Path, seed: int, name: str) -> None:
    geometry = Geometry(random_affine(seed), SHAPE)
    write_nifti(tmp_path / name, DATA, geometry)
    again = read_nifti(tmp_path / name)
    assert again.geometry.distance(geometry) < 1e-3
    assert torch.equal(again.data[0], DATA)
    assert again.notices == ()
    image = nib.load(tmp_path / name)
    for form in (image.get_sform(coded=True), image.get_qform(coded=True)):
        assert form[1] == 1
        assert Geometry(form[0], SHAPE).distance(geometry) < 0.1
    theirs = SimpleITK.ReadImage(str(tmp_path / name))
    corner = theirs.TransformContinuousIndexToPhysicalPoint([n - 1.0 for n in SHAPE])
    ours = LPS_RAS[:3, :3] @ geometry.world(np.array([n - 1.0 for n in SHAPE]))
    assert np.linalg.norm(ours - corner) < 0.1
    assert np.array_equal(SimpleITK.GetArrayFromImage(theirs).T, DATA.numpy())


def test_a_sheared_grid_has_no_qform(tmp_path: Path) -> None:
    geometry = Geometry(random_affine(1, shear=0.3), SHAPE)
    write_nifti(tmp_path / "a.nii", DATA, geometry)
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)
    assert header.get_zooms() == pytest.approx(geometry.spacing)
    assert read_nifti(tmp_path / "a.nii").geometry.distance(geometry) < 1e-3


def test_the_header_says_what_it_is_and_names_nobody(tmp_path: Path) -> None:
    geometry = Geometry(np.diag([2.0, 2.0, 3.0, 1.0]), SHAPE)
    write_nifti(tmp_path / "a.nii.gz", DATA, geometry, intent_name="a name longer than fits", limits=(-1.5, 2.0))
    raw = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    assert np.frombuffer(raw[112:120], "<f4").tolist() == [1.0, 0.0]
    image = nib.load(tmp_path / "a.nii.gz")
    header = image.header
    assert image.get_data_dtype() == np.float32
    assert header.get_intent() == ("estimate", (), "a name longer t")
    assert (float(header["cal_min"]), float(header["cal_max"])) == (-1.5, 2.0)
    assert header.get_xyzt_units()[0] == "mm"
    assert (header["descrip"], header["aux_file"], header["db_name"]) == (b"", b"", b"")
    assert len(header.extensions) == 0


def test_the_same_values_give_the_same_bytes(tmp_path: Path) -> None:
    geometry = Geometry(random_affine(2), SHAPE)
    for name in ("one.nii.gz", "another.nii.gz"):
        write_nifti(tmp_path / name, DATA, geometry)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "another.nii.gz").read_bytes()
    assert b"one.nii" not in (tmp_path / "one.nii.gz").read_bytes()


def test_a_film_is_one_slice_deep(tmp_path: Path) -> None:
    geometry = Geometry(np.array([[0, -0.4, 0, 0], [-0.2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), (8, 7))
    write_nifti(tmp_path / "a.nii", DATA[0], geometry)
    image = nib.load(tmp_path / "a.nii")
    assert image.shape == (8, 7, 1)
    assert np.abs(image.affine - geometry.affine).max() < 1e-6
    assert np.array_equal(image.get_fdata()[..., 0], DATA[0].numpy())
    assert read_nifti(tmp_path / "a.nii").geometry.units == "mm"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(9, 8, 7), (9, 8)])
def test_a_grid_unknown_to_the_patient_claims_none_and_comes_back(
    tmp_path: Path, seed: int, shape: tuple[int, ...]
) -> None:
    geometry = Geometry(random_affine(seed, shear=0.3 * (seed % 2)), shape, "unknown")
    data = DATA if len(shape) == 3 else DATA[..., 0]
    write_nifti(tmp_path / "a.nii.gz", data, geometry)
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 2)
    assert np.allclose(header.get_sform(), geometry.affine, atol=1e-4)
    assert header.get_xyzt_units()[0] == "unknown"
    assert header.get_zooms()[: len(shape)] == pytest.approx(geometry.spacing)
    again = read_nifti(tmp_path / "a.nii.gz")
    assert again.geometry.units == "unknown"
    assert again.geometry.same(Geometry(geometry.affine, geometry.shape3, "unknown"))
    assert torch.equal(again.data[0].reshape(shape), data)
    assert again.notices == ("N03: header states a pixel frame: grid is not in the patient",)


def test_a_map_lies_on_its_source_without_codes_in_every_program(tmp_path: Path) -> None:
    source = nib.Nifti1Image(DATA.numpy(), None)
    source.header["pixdim"][1:4] = 2, 3, 4
    nib.save(source, tmp_path / "source.nii")
    volume = read_nifti(tmp_path / "source.nii")
    write_nifti(tmp_path / "map.nii", DATA, volume.geometry)
    header = nib.load(tmp_path / "map.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"]), header["descrip"]) == (0, 0, b"")
    assert read_nifti(tmp_path / "map.nii").geometry == volume.geometry
    assert np.array_equal(nib.load(tmp_path / "map.nii").affine, nib.load(tmp_path / "source.nii").affine)
    theirs = [SimpleITK.ReadImage(str(tmp_path / name)) for name in ("source.nii", "map.nii")]
    places = {(im.GetOrigin(), im.GetSpacing(), im.GetDirection()) for im in theirs}
    assert len(places) == 1


def test_a_map_on_a_picture_lies_on_the_picture_for_us_and_for_itk(tmp_path: Path) -> None:
    Image.fromarray(np.arange(72, dtype=np.uint8).reshape(9, 8)).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png").geometry
    data = torch.arange(72.0).reshape(9, 8)
    write_nifti(tmp_path / "map.nii.gz", data, picture)
    assert np.array_equal(read_nifti(tmp_path / "map.nii.gz").geometry.affine, picture.affine)
    theirs, source = (SimpleITK.ReadImage(str(tmp_path / name)) for name in ("map.nii.gz", "a.png"))
    for row, column in ((0, 0), (8, 7), (2, 5)):
        place = source.TransformIndexToPhysicalPoint((column, row))
        assert theirs.TransformIndexToPhysicalPoint((row, column, 0)) == (*place, 0.0)
        assert theirs[row, column, 0] == source[column, row]


def test_what_nifti_cannot_hold_is_refused(tmp_path: Path) -> None:
    geometry = Geometry(np.eye(4), SHAPE)
    with pytest.raises(WriteError, match="not a NIfTI name"):
        write_nifti(tmp_path / "a.png", DATA, geometry)
    with pytest.raises(WriteError, match="map and grid differ"):
        write_nifti(tmp_path / "a.nii", DATA[1:], geometry)
    with pytest.raises(WriteError, match="32767"):
        write_nifti(tmp_path / "a.nii", torch.zeros(40000, 1), Geometry(np.eye(4), (40000, 1)))
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_order_and_says_undefined_as_null(tmp_path: Path) -> None:
    content = {"z": 1, "a": (1.5, float("nan"), float("inf"), -float("inf")), "ü": {"deep": [None, True, "x"]}}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {"z": 1, "a": [1.5, None, "inf", "-inf"], "ü": {"deep": [None, True, "x"]}}
    assert text.index('"z"') < text.index('"a"')
    with pytest.raises(WriteError, match="no JSON"):
        write_json(tmp_path / "b.json", {"a": object()})
    assert not (tmp_path / "b.json").exists()
