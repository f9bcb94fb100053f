"""NRRD and MetaImage headers read strictly: row N32 and the NIfTI rows that apply to them, by their codes."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest

from medxai.errors import MedxaiError
from medxai.io.codes import codes
from medxai.io.itk import read_itk
from medxai.io.options import ReadOptions
from tests.io.phantoms import address, farthest_mm

VOXELS = address().tobytes(order="F")
AFFINE = np.diag([-0.5, -0.7, 2.5, 1.0])
AFFINE[:3, 3] = -3, -4, 5
NRRD = """NRRD0004
# written by hand
type: short
dimension: 3
space: left-posterior-superior
sizes: 7 5 4
space directions: (0.5,0,0) (0,0.7,0) (0,0,2.5)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (3,4,5)

"""
MHA = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 3 4 5
CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = 0.5 0.7 2.5
DimSize = 7 5 4
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""


def put(folder: Path, header: str, voxels: bytes = VOXELS, name: str = "") -> Path:
    path = folder / (name or ("a.nrrd" if header.startswith("NRRD") else "a.mha"))
    path.write_bytes(header.encode() + voxels)
    return path


@pytest.mark.parametrize("header", [NRRD, MHA, NRRD.replace("\n", "\r\n")], ids=["nrrd", "mha", "crlf"])
def test_what_is_written_by_the_book_is_read_in_silence(tmp_path: Path, header: str) -> None:
    volume = read_itk(put(tmp_path, header))
    assert volume.notices == ()
    assert farthest_mm(volume, AFFINE) < 1e-6


def big(header: str) -> str:
    return header.replace("little", "big").replace("MSB = False", "MSB = True")


@pytest.mark.parametrize("header", [NRRD, MHA], ids=["nrrd", "mha"])
def test_byte_order_compression_and_data_beside_the_header(tmp_path: Path, header: str) -> None:
    swapped = address().astype(">i2").tobytes(order="F")
    assert farthest_mm(read_itk(put(tmp_path, big(header), swapped)), AFFINE) < 1e-6
    packed = header.replace("encoding: raw", "encoding: gzip").replace(
        "CompressedData = False", "CompressedData = True"
    )
    squeeze = gzip.compress if header is NRRD else zlib.compress
    assert farthest_mm(read_itk(put(tmp_path, packed, squeeze(VOXELS))), AFFINE) < 1e-6
    (tmp_path / "a.raw").write_bytes(VOXELS)
    apart = header.rstrip("\n").replace("LOCAL", "a.raw") + ("\ndata file: a.raw\n" if header is NRRD else "\n")
    assert farthest_mm(read_itk(put(tmp_path, apart, b"")), AFFINE) < 1e-6
    (tmp_path / "a.raw").write_bytes(b"\x1f\x8b" + VOXELS[2:])  # voxels that look like gzip are voxels
    assert read_itk(put(tmp_path, apart, b"")).data[0, 0, 0, 0] == -29921


REFUSED = {
    "N32 comma": ("N32", NRRD, "(0.5,0,0)", "(0,5,0,0)"),
    "N32 comma in mha": ("N32", MHA, "0.5 0.7", "0,5 0,7"),
    "N32 word": ("N32", MHA, "0.5 0.7", "0.5 half"),
    "N32 infinite": ("N32", MHA, "0.5 0.7", "0.5 inf"),
    "N32 twice": ("N32", NRRD, "# written by hand", "type: float"),
    "N32 origin": ("N32", NRRD, "(3,4,5)", "3 4 5"),
    "N32 endian": ("N32", NRRD, "endian: little\n", ""),
    "N32 encoding": ("N32", NRRD, "encoding: raw", "encoding: bzip2"),
    "N07": ("N07", MHA, "0.5 0.7", "0 0.7"),
    "N08": ("N08", NRRD, "(0,0.7,0)", "(0.5,0,0)"),
    "N11": ("N11", NRRD, "kinds:", 'space units: "m" "m" "m"\nkinds:'),
    "N13": ("N13", MHA, "Offset = 3", "ElementToIntensityFunctionSlope = 2\nOffset = 3"),
    "N14": ("N14", NRRD, "kinds: domain domain", "kinds: list list"),
    "N14 axes": ("N14", MHA, "NDims = 3", "NDims = 4"),
    "N17": ("N17", NRRD, "7 5 4", "7 5 5"),
    "N17 in mha": ("N17", MHA, "7 5 4", "7 5 5"),
    "N20": ("N20", NRRD, "7 5 4", "7 5 3"),
    "N23 zero": ("N23", NRRD, "7 5 4", "7 0 4"),
    "N23 giant": ("N23", MHA, "7 5 4", "70000 50000 40000"),
    "N25 skip": ("N25", NRRD, "encoding", "line skip: 3\nencoding"),
    "N25 elsewhere": ("N25", MHA, "LOCAL", "../other/patient.raw"),
    "N25 list": ("N25", MHA, "LOCAL", "LIST"),
    "N25 absent": ("N25", NRRD, "encoding", "data file: absent.raw\nencoding"),
    "N26": ("N26", NRRD, "type: short", "type: block"),
    "N26 long": ("N26", MHA, "MET_SHORT", "MET_LONG"),
    "N27": ("N27", NRRD, "kinds: domain", "kinds: complex"),
}


@pytest.mark.parametrize(("code", "header", "old", "new"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_its_code(tmp_path: Path, code: str, header: str, old: str, new: str) -> None:
    assert old in header
    changed = header.replace(old, new)
    if "kinds: complex" in new or "kinds: list" in new:
        changed = changed.replace("space directions: (0.5,0,0) (0,0.7,0) (0,0,2.5)\n", "")
    path = put(tmp_path, changed)
    with pytest.raises(MedxaiError, match=path.name) as caught:
        read_itk(path)
    assert caught.value.code == code


def test_repairs_and_remarks_are_recorded(tmp_path: Path) -> None:
    assert codes(read_itk(put(tmp_path, NRRD, VOXELS + b"x")).notices) == ("N20",)
    assert codes(read_itk(put(tmp_path, NRRD.replace("space: left-posterior-superior\n", ""))).notices) == ("N03",)
    nowhere = read_itk(put(tmp_path, MHA.replace("ElementSpacing = 0.5 0.7 2.5\n", "")))
    assert (codes(nowhere.notices), nowhere.geometry.units) == (("N03",), "unknown")
    floats = np.where(address() == 5, np.nan, address()).astype("<f4")
    header = MHA.replace("MET_SHORT", "MET_FLOAT")
    with pytest.raises(MedxaiError) as caught:
        read_itk(put(tmp_path, header, floats.tobytes(order="F")))
    assert caught.value.code == "N12"
    volume = read_itk(put(tmp_path, header, floats.tobytes(order="F")), ReadOptions(nan=0))
    assert codes(volume.notices) == ("N12",)
    assert volume.data[0, 5, 0, 0] == 0


def test_n18_and_n19_compressed_voxels_are_verified_to_the_end(tmp_path: Path) -> None:
    packed = gzip.compress(VOXELS)
    header = NRRD.replace("encoding: raw", "encoding: gzip")
    for content, code in ((packed[:-9], "N18"), (packed[:-8] + bytes(8), "N19"), (b"no gzip at all", "N19")):
        with pytest.raises(MedxaiError) as caught:
            read_itk(put(tmp_path, header, content))
        assert caught.value.code == code
