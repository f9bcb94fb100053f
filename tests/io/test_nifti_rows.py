"""The rows N01 to N31 of docs/bad_inputs.md: refused with their code, or repaired and recorded with it."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medxai.errors import MedxaiError
from medxai.io.codes import codes
from medxai.io.nifti import read_nifti
from medxai.io.options import ReadOptions
from medxai.io.read import load_case, read_mask, read_volume
from medxai.io.write import write_nifti
from tests.io.nifti_phantom import AFFINE, OFFSET, changed, phantom
from tests.io.phantoms import SHAPE, address, farthest_mm

PLAIN = phantom()
DATA = Path(nib.__file__).parent / "tests" / "data"
NO_CODES = {"qform_code": 0, "sform_code": 0}
SFORM_ONLY = {"qform_code": 0}
QFORM_ONLY = {"sform_code": 0}
STEPS = {1: 1.4, 2: 1.8, 3: 5.0}
FLOATS = address().astype(np.float32)
BROKEN = np.where(FLOATS == 5, np.nan, np.where(FLOATS == 33, np.inf, FLOATS)).astype(np.float32)
SERIES = phantom(voxels=np.stack([address(), address() + 1], -1))


def put(folder: Path, content: bytes, name: str = "a.nii") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


REFUSED = {
    "N01 sform elsewhere": ("N01", changed(PLAIN, srow_x={3: 40.2})),
    "N01 qform turned": ("N01", changed(PLAIN, quatern_b=0.2, quatern_c=0.9)),
    "N02 sform alone": ("N02", changed(PLAIN, pixdim=STEPS, **SFORM_ONLY)),
    "N02 with qform": ("N01", changed(PLAIN, pixdim=STEPS)),
    "N07 zero": ("N07", changed(PLAIN, pixdim={1: 0.0}, **QFORM_ONLY)),
    "N07 NaN": ("N07", changed(PLAIN, pixdim={2: np.nan}, **NO_CODES)),
    "N08 zero": ("N08", changed(PLAIN, srow_x=0, srow_y=0, srow_z=0)),
    "N08 singular": ("N08", changed(PLAIN, srow_x={0: 0.0})),
    "N08 NaN": ("N08", changed(PLAIN, srow_y={3: np.nan})),
    "N08 quaternion": ("N08", changed(PLAIN, quatern_b=0.9, quatern_c=0.9)),
    "N08 qfac": ("N08", changed(PLAIN, pixdim={0: np.nan})),
    "N11 no unit": ("N11", changed(PLAIN, xyzt_units=7)),
    "N12": ("N12", phantom(voxels=BROKEN)),
    "N13 intercept": ("N13", changed(PLAIN, scl_slope=2.0, scl_inter=np.nan)),
    "N13 slope": ("N13", changed(PLAIN, scl_slope=np.inf)),
    "N14": ("N14", SERIES),
    "N14 five axes": ("N14", phantom(voxels=np.stack([np.stack([address()] * 2, -1)] * 3, -1))),
    "N15 one axis": ("N15", changed(PLAIN, dim={0: 1, 1: 140})),
    "N17": ("N17", PLAIN[:-20]),
    "N17 in the header": ("N17", PLAIN[:200]),
    "N18": ("N18", gzip.compress(PLAIN)[:-20]),
    "N18 in the trailer": ("N18", gzip.compress(PLAIN)[:-4]),
    "N19 checksum": ("N19", flipped(gzip.compress(PLAIN), -6)),
    "N19 length": ("N19", flipped(gzip.compress(PLAIN), -2)),
    "N20 a slice more": ("N20", PLAIN + bytes(70)),
    "N20 endless": ("N20", PLAIN + bytes(10**6)),
    "N22 page": ("N22", b"\n<!DOCTYPE html><html>404</html>" * 40),
    "N22 text": ("N22", b"subject,age\n1,2\n" * 40),
    "N22 empty": ("N22", b""),
    "N23 no axes": ("N23", changed(PLAIN, dim={0: 0})),
    "N23 nine axes": ("N23", changed(PLAIN, dim={0: 9})),
    "N23 negative": ("N23", changed(PLAIN, dim={2: -5})),
    "N23 giant": ("N23", changed(PLAIN, dim={1: 32767, 2: 32767, 3: 32767})),
    "N25 inside": ("N25", changed(PLAIN, vox_offset=100)),
    "N25 fraction": ("N25", changed(PLAIN, vox_offset=352.5)),
    "N25 NaN": ("N25", changed(PLAIN, vox_offset=np.nan)),
    "N25 beyond": ("N17", changed(PLAIN, vox_offset=10**6)),
    "N26 bits": ("N26", changed(PLAIN, bitpix=8)),
    "N26 type": ("N26", changed(PLAIN, datatype=5)),
    "N26 float128": ("N26", changed(PLAIN, datatype=1536, bitpix=128)),
    "N27 complex": ("N27", phantom(voxels=address().astype(np.complex64))),
    "N27 colour": ("N27", phantom(voxels=np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]))),
    "N28 float64": ("N28", phantom(voxels=np.full(SHAPE, 1e300))),
    "N28 uint64": ("N28", phantom(voxels=np.full(SHAPE, 2**63, np.uint64))),
    "N29 pair": ("N29", changed(PLAIN, magic=b"ni1")),
    "N30": ("N30", changed(PLAIN, magic=b"")),
}


@pytest.mark.parametrize(("code", "content"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_its_code(tmp_path: Path, code: str, content: bytes) -> None:
    with pytest.raises(MedxaiError, match=r"a\.nii") as caught:
        read_nifti(put(tmp_path, content))
    assert caught.value.code == code
    assert "Expected" in str(caught.value) or not content


REPAIRED = {
    "N03": ("N03", changed(PLAIN, **NO_CODES)),
    "N05 qform": ("N05", changed(PLAIN, pixdim={1: -0.7}, **QFORM_ONLY)),
    "N05 sform": ("N05", changed(PLAIN, pixdim={3: -2.5})),
    "N06 zero": ("N06", changed(PLAIN, pixdim={1: 0.0})),
    "N06 NaN": ("N06", changed(PLAIN, pixdim={3: np.nan}, **SFORM_ONLY)),
    "N11 unknown": ("N11", changed(PLAIN, xyzt_units=0)),
    "N13 slope NaN": ("N13", changed(PLAIN, scl_slope=np.nan)),
    "N14 singleton": ("N14", phantom(voxels=address()[..., None])),
    "N20": ("N20", PLAIN + b"garbage"),
    "N20 behind gzip": ("N20", gzip.compress(PLAIN) + b"garbage"),
}


@pytest.mark.parametrize(("code", "content"), REPAIRED.values(), ids=REPAIRED.keys())
def test_repaired_and_recorded(tmp_path: Path, code: str, content: bytes) -> None:
    volume = read_nifti(put(tmp_path, content, "a.nii.gz" if content[:2] == b"\x1f\x8b" else "a.nii"))
    assert codes(volume.notices) == (code,)
    assert np.array_equal(volume.data[0].numpy(), address())
    if volume.geometry.units == "mm":
        assert farthest_mm(volume, AFFINE) < 1e-3
    assert "a.nii" not in " ".join(volume.notices)


ACCEPTED = {
    "N04 qform": changed(PLAIN, **QFORM_ONLY),
    "N04 sform": changed(PLAIN, **SFORM_ONLY),
    "N13 slope 0": changed(PLAIN, scl_slope=0.0, scl_inter=7.0),
    "N18 members": gzip.compress(PLAIN[:500]) + gzip.compress(PLAIN[500:]) + bytes(512),
    "nothing": PLAIN,
}


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted_without_a_word(tmp_path: Path, content: bytes) -> None:
    volume = read_nifti(put(tmp_path, content, "a.nii.gz" if content[:2] == b"\x1f\x8b" else "a.nii"))
    assert volume.notices == ()
    assert np.array_equal(volume.data[0].numpy(), address())
    assert farthest_mm(volume, AFFINE) < 1e-3


@pytest.mark.parametrize("form", ["sform", "qform"])
def test_n01_the_user_decides_between_two_affines(tmp_path: Path, form: str) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 12
    path = put(tmp_path, changed(PLAIN, srow_x=moved[0]))
    volume = read_nifti(path, ReadOptions(affine=form))
    assert farthest_mm(volume, {"sform": moved, "qform": AFFINE}[form]) < 1e-3
    assert codes(volume.notices) == ("N01",)
    alone = put(tmp_path, changed(PLAIN, **{f"{form}_code": 0}))
    assert farthest_mm(read_nifti(alone, ReadOptions(affine=form)), AFFINE) < 1e-3


def test_n02_the_user_may_believe_the_sform(tmp_path: Path) -> None:
    path = put(tmp_path, changed(PLAIN, pixdim=STEPS, **SFORM_ONLY))
    assert farthest_mm(read_nifti(path, ReadOptions(affine="sform")), AFFINE) < 1e-3
    close = put(tmp_path, changed(PLAIN, pixdim={1: 0.71}, **SFORM_ONLY))
    assert farthest_mm(read_nifti(close), AFFINE) < 1e-3


def test_n03_without_a_place_no_mask_is_taken_unless_permitted(tmp_path: Path) -> None:
    path = put(tmp_path, changed(phantom(voxels=(address() > 99).astype(np.uint8)), **NO_CODES))
    with pytest.raises(MedxaiError, match="no place in the patient") as caught:
        read_mask(path)
    assert caught.value.code == "N03"
    with pytest.raises(MedxaiError, match="no place in the patient"):
        load_case(path, path)
    assert load_case(path).image.geometry.units == "unknown"
    assert load_case(path, path, options=ReadOptions(unplaced=True)).image.data.shape[0] == 2
    mask = read_mask(path, options=ReadOptions(unplaced=True))
    assert np.array_equal(mask.data.numpy(), address() > 99)
    assert codes(mask.notices) == ("N03",)


def test_n09_a_sheared_axis_may_state_its_length_or_its_height(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.8
    rows = {f"srow_{axis}": sheared[n] for n, axis in enumerate("xyz")}
    for step in (2.5, float(np.linalg.norm(sheared[:3, 2]))):
        path = put(tmp_path, changed(PLAIN, pixdim={3: step}, **rows, **SFORM_ONLY))
        assert farthest_mm(read_nifti(path), sheared) < 1e-3
        assert read_nifti(path).notices == ()


@pytest.mark.parametrize(("unit", "code", "scale"), [("m", 1, 1000.0), ("micron", 3, 0.001)])
def test_n11_units_become_millimetres(tmp_path: Path, unit: str, code: int, scale: float) -> None:
    volume = read_nifti(put(tmp_path, changed(PLAIN, xyzt_units=code)))
    assert volume.geometry.spacing_mm == pytest.approx([0.7 * scale, 0.9 * scale, 2.5 * scale])
    assert codes(volume.notices) == ("N11",)


def test_n12_what_is_no_number_becomes_what_the_user_says(tmp_path: Path) -> None:
    path = put(tmp_path, phantom(voxels=BROKEN))
    volume = read_volume(path, options=ReadOptions(nan=-1))
    expected = np.where(np.isfinite(BROKEN), BROKEN, -1)
    assert np.array_equal(volume.data[0].numpy(), expected)
    assert volume.notices == ("N12: 2 voxels that were NaN or infinite set to -1, as the user chose",)


def test_n14_one_volume_of_several_is_read_by_its_number(tmp_path: Path) -> None:
    for content, name in ((SERIES, "a.nii"), (gzip.compress(SERIES), "a.nii.gz")):
        for k in (0, 1):
            volume = read_nifti(put(tmp_path, content, name), ReadOptions(volume=k))
            assert np.array_equal(volume.data[0].numpy(), address() + k)
            assert codes(volume.notices) == ("N14",)
    for k in (-1, 2):
        with pytest.raises(MedxaiError, match="from 0 to 1"):
            read_nifti(put(tmp_path, SERIES), ReadOptions(volume=k))
    with pytest.raises(MedxaiError, match="ends before") as caught:
        read_nifti(put(tmp_path, SERIES[:-2]), ReadOptions(volume=0))
    assert caught.value.code == "N17"


def test_n16_both_byte_orders_and_n29_both_versions(tmp_path: Path) -> None:
    swapped = nib.Nifti1Image(address().astype(">i2"), None, nib.Nifti1Header(endianness=">"))
    second = nib.Nifti2Image(address(), None)
    for image in (swapped, second):
        image.set_data_dtype(np.int16)
        image.header.set_xyzt_units("mm")
        image.header.set_zooms((0.7, 0.9, 2.5))
        image.set_sform(AFFINE, 1)
        volume = read_nifti(put(tmp_path, image.to_bytes()))
        assert volume.notices == ()
        assert farthest_mm(volume, AFFINE) < 1e-3
    with pytest.raises(MedxaiError) as caught:
        read_nifti(put(tmp_path, second.to_bytes()[:400]))
    assert caught.value.code == "N17"


@pytest.mark.parametrize(("content", "name"), [(PLAIN, "a.nii.gz"), (gzip.compress(PLAIN), "a.nii")])
def test_n21_content_outranks_the_name(tmp_path: Path, content: bytes, name: str) -> None:
    volume = read_volume(put(tmp_path, content, name))
    assert codes(volume.notices) == ("N21",)
    assert farthest_mm(volume, AFFINE) < 1e-3


def test_n27_one_part_of_complex_and_coloured_voxels(tmp_path: Path) -> None:
    values = (address() + 1j * address()[::-1]).astype(np.complex64)
    path = put(tmp_path, phantom(voxels=values))
    for part, of in (("magnitude", np.abs), ("real", np.real), ("imaginary", np.imag)):
        assert np.array_equal(read_nifti(path, ReadOptions(component=part)).data[0].numpy(), of(values))
    colour = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["G"] = address() % 200
    path = put(tmp_path, phantom(voxels=colour))
    assert np.array_equal(read_nifti(path, ReadOptions(component="green")).data[0].numpy(), address() % 200)
    with pytest.raises(MedxaiError) as caught:
        read_nifti(path, ReadOptions(component="real"))
    assert caught.value.code == "N27"
    plain = read_nifti(
        put(tmp_path, PLAIN), ReadOptions(component="red", volume=3)
    )  # as of a mask beside such an image
    assert np.array_equal(plain.data[0].numpy(), address())


@pytest.mark.parametrize("dtype", ["float64", "uint32", "int64", "uint64"])
def test_n28_large_labels_stay_apart(tmp_path: Path, dtype: str) -> None:
    labels = address().astype(dtype) + 2**24
    volume = read_nifti(put(tmp_path, phantom(voxels=labels)))
    assert volume.data.dtype == torch.int64
    assert np.array_equal(volume.data[0].numpy(), labels)
    assert codes(volume.notices) == ("N28",)


def test_n26_floats_that_are_really_integers_are_told(tmp_path: Path) -> None:
    content = changed(phantom(voxels=address().astype(np.int32)), datatype=16)
    assert codes(read_nifti(put(tmp_path, content)).notices) == ("N26",)


def test_n29_analyze_pairs_and_mgh_are_refused(tmp_path: Path) -> None:
    for name, code in (("analyze.hdr", "N30"), ("nifti1.hdr", "N29")):
        with pytest.raises(MedxaiError) as caught:
            read_volume(DATA / name)
        assert caught.value.code == code
    with pytest.raises(MedxaiError, match="known format"):
        read_volume(DATA / "test.mgz")


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_n31_no_extension_and_no_text_of_the_header_is_written(tmp_path: Path) -> None:
    image = nib.Nifti1Image.from_bytes(changed(PLAIN, descrip=b"DOE", aux_file=b"DOE", db_name=b"DOE"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE JANE 1970"))
    nib.save(image, tmp_path / "a.nii")
    assert b"DOE JANE" in (tmp_path / "a.nii").read_bytes()
    volume = read_nifti(tmp_path / "a.nii")
    assert farthest_mm(volume, AFFINE) < 1e-3
    write_nifti(tmp_path / "b.nii", volume.data[0].float(), volume.geometry)
    assert b"DOE" not in (tmp_path / "b.nii").read_bytes()
    assert len((tmp_path / "b.nii").read_bytes()) == OFFSET + 4 * address().size


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(MedxaiError, match="no such file"):
        read_volume(tmp_path / "absent.nii")
    with pytest.raises(MedxaiError, match="cannot be read"):
        read_nifti(tmp_path / "absent.nii")
