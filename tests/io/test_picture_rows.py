"""The rows P01 to P12 of docs/bad_inputs.md that `test_picture` does not name: by their codes."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from medxai.errors import MedxaiError
from medxai.io.codes import codes
from medxai.io.options import ReadOptions
from medxai.io.picture import read_picture
from medxai.io.read import read_mask, read_volume

GRAY = (np.arange(12, dtype=np.uint8) * 20).reshape(3, 4)
RGB = np.stack([GRAY, GRAY + 1, GRAY], -1)
NOISE = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def save(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(MedxaiError, match=path.name) as caught:
        read_picture(path)
    return caught.value.code


@pytest.mark.parametrize("depth", [2, 4])
def test_p01_narrow_samples_keep_their_values(tmp_path: Path, depth: int) -> None:
    packed = {2: bytes([0b00011011]), 4: bytes([0x01, 0x23])}[depth]
    (tmp_path / "a.png").write_bytes(png(4, 1, depth, 0, b"\0" + packed))
    volume = read_picture(tmp_path / "a.png")
    assert volume.data[0].tolist() == [[0, 1, 2, 3]]
    assert codes(volume.notices) == ("P01",)
    assert read_mask(tmp_path / "a.png", label=2).data.tolist() == [[False, False, True, False]]


def test_p01_sixteen_bit_colour_would_lose_half_its_bits(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(2, 2, 16, 2, b"".join(b"\0" + bytes(range(12)) for _ in range(2))))
    assert refusal(tmp_path / "a.png") == "P01"
    (tmp_path / "b.png").write_bytes(png(2, 2, 16, 4, b"".join(b"\0" + b"\1\2\xff\xff" * 2 for _ in range(2))))
    assert refusal(tmp_path / "b.png") == "P01"


def test_p03_only_what_hides_nothing_is_dropped(tmp_path: Path) -> None:
    opaque = np.dstack([RGB, np.full_like(GRAY, 255)])
    volume = read_picture(save(tmp_path / "a.png", opaque))
    assert codes(volume.notices) == ("P03",)
    assert np.array_equal(volume.data.numpy(), RGB.transpose(2, 0, 1))
    opaque[0, 0, 3] = 254
    assert refusal(save(tmp_path / "b.png", opaque)) == "P03"
    Image.fromarray(RGB).save(tmp_path / "c.png", transparency=(0, 1, 0))
    assert refusal(tmp_path / "c.png") == "P03"


def test_p04_cmyk_p08_floats_and_pages(tmp_path: Path) -> None:
    assert refusal(save(tmp_path / "a.jpg", RGB, "CMYK")) == "P04"
    assert refusal(save(tmp_path / "a.tif", GRAY.astype(np.float32))) == "P08"
    pages = [Image.fromarray(GRAY), Image.fromarray(GRAY.T.copy().reshape(3, 4))]
    for name in ("b.tif", "b.gif", "b.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert refusal(tmp_path / name) == "P08"


def test_p05_a_turned_tiff_says_so(tmp_path: Path) -> None:
    image = Image.fromarray(GRAY)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[274] = 6
    image.save(tmp_path / "a.tif", tiffinfo=info)
    volume = read_picture(tmp_path / "a.tif")
    assert np.array_equal(volume.data[0].numpy(), np.rot90(GRAY, -1))
    assert codes(volume.notices) == ("P05",)
    info[274] = 9
    image.save(tmp_path / "b.tif", tiffinfo=info)
    volume = read_picture(tmp_path / "b.tif")
    assert np.array_equal(volume.data[0].numpy(), GRAY)
    assert volume.notices == ("P05: an EXIF orientation without meaning ignored",)


def test_p06_more_pixels_than_a_picture_may_have(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(60000, 60000, 1, 0, bytes(10)))
    assert refusal(tmp_path / "a.png") == "P06"
    (tmp_path / "b.png").write_bytes(png(16384, 8193, 1, 0, bytes(10)))
    assert refusal(tmp_path / "b.png") == "P06"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_p07_a_truncated_picture(tmp_path: Path, name: str, kept: float) -> None:
    content = save(tmp_path / name, NOISE).read_bytes()
    (tmp_path / f"cut_{name}").write_bytes(content[: int(len(content) * kept)])
    assert refusal(tmp_path / f"cut_{name}") == "P07"


def test_p07_ends_and_checksums_are_asked(tmp_path: Path) -> None:
    content = save(tmp_path / "a.jpg", NOISE).read_bytes()
    (tmp_path / "b.jpg").write_bytes(content[:-2])
    assert refusal(tmp_path / "b.jpg") == "P07"
    content = save(tmp_path / "a.png", NOISE).read_bytes()
    (tmp_path / "b.png").write_bytes(content[:-12])
    assert refusal(tmp_path / "b.png") == "P07"
    for at in range(40, len(content) - 16, 257):
        hurt = bytearray(content)
        hurt[at] ^= 4
        (tmp_path / "c.png").write_bytes(bytes(hurt))
        assert refusal(tmp_path / "c.png") == "P07"


def test_p08_one_bit_loses_nothing(tmp_path: Path) -> None:
    volume = read_picture(save(tmp_path / "a.png", GRAY > 100))
    assert (volume.notices, volume.data[0].tolist()) == ((), (GRAY > 100).astype(int).tolist())


def test_p09_content_outranks_the_name(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GRAY).rename(tmp_path / "a.jpg")
    volume = read_volume(path)
    assert codes(volume.notices) == ("P09",)
    assert np.array_equal(volume.data[0].numpy(), GRAY)
    (tmp_path / "b.png").write_bytes(gzip.compress((tmp_path / "a.jpg").read_bytes()))
    assert np.array_equal(read_volume(tmp_path / "b.png").data[0].numpy(), GRAY)


def test_p10_equal_channels_are_one_and_unequal_ones_no_mask(tmp_path: Path) -> None:
    volume = read_picture(save(tmp_path / "a.png", np.stack([GRAY] * 3, -1)))
    assert (codes(volume.notices), volume.data.shape[0]) == (("P10",), 1)
    with pytest.raises(MedxaiError) as caught:
        read_mask(save(tmp_path / "b.png", RGB))
    assert caught.value.code == "P10"
    luma = read_volume(tmp_path / "b.png", options=ReadOptions(gray=True))
    assert codes(luma.notices) == ("P10",)
    assert np.allclose(luma.data[0].numpy(), RGB @ [0.299, 0.587, 0.114], atol=1e-4)


def test_p11_millimetres_are_refused_where_none_are_known(tmp_path: Path) -> None:
    with pytest.raises(MedxaiError, match="pixel size is unknown"):
        _ = read_picture(save(tmp_path / "a.png", GRAY)).geometry.spacing_mm
    assert codes(read_volume(tmp_path / "a.png", spacing=(0.2, 0.2)).notices) == ("P11",)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_p12_a_tiff_whose_zero_is_white_is_turned(tmp_path: Path, dtype: type) -> None:
    values = GRAY.astype(dtype)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[262] = 0
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo=info)
    with Image.open(tmp_path / "a.tif") as page:
        assert page.tag_v2[262] == 0
        start = page.tag_v2[273][0]
    stored = np.frombuffer((tmp_path / "a.tif").read_bytes()[start:], dtype, values.size).reshape(values.shape)
    volume = read_picture(tmp_path / "a.tif")
    assert codes(volume.notices) == ("P12",)
    assert np.array_equal(volume.data[0].numpy(), np.iinfo(dtype).max - stored)
