"""Pictures: every bit kept, every repair told, everything ambiguous refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medxai.errors import GeometryError, InputError
from medxai.io.picture import read_picture

GRAY = (np.arange(12, dtype=np.uint8) * 20).reshape(3, 4)


def save(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


def test_rows_and_columns_lie_by_the_stated_convention(tmp_path: Path) -> None:
    volume = read_picture(save(tmp_path / "a.png", GRAY), spacing=(0.5, 0.2))
    assert np.array_equal(volume.data.numpy(), GRAY[None])
    assert volume.geometry.shape == (3, 4)
    assert volume.geometry.spacing_mm == (0.5, 0.2)
    expected = [[0, -0.2, 0, 0], [-0.5, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert np.array_equal(volume.geometry.affine, np.array(expected, np.float64))
    assert volume.geometry.axcodes == "PL"


def test_unknown_spacing_is_unknown(tmp_path: Path) -> None:
    geometry = read_picture(save(tmp_path / "a.png", GRAY)).geometry
    assert geometry.units == "unknown"
    assert geometry.spacing == (1.0, 1.0)
    with pytest.raises(GeometryError, match="pixel size is unknown"):
        _ = geometry.spacing_mm
    with pytest.raises(InputError, match="positive"):
        read_picture(tmp_path / "a.png", spacing=(0.0, 1.0))


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    deep = (np.arange(12, dtype=np.uint16) * 5461).reshape(3, 4)
    for name in ("a.png", "a.tif"):
        volume = read_picture(save(tmp_path / name, deep))
        assert volume.data.dtype == torch.int32
        assert np.array_equal(volume.data[0].numpy(), deep)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_turns_and_is_told(tmp_path: Path, orientation: int) -> None:
    turns = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].T,
        8: np.rot90,
    }
    image = Image.fromarray(GRAY)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    volume = read_picture(tmp_path / "a.png")
    assert np.array_equal(volume.data[0].numpy(), turns[orientation](GRAY))
    assert f"EXIF orientation {orientation}" in volume.notices[0]


def test_palette_is_applied_and_equal_channels_are_one(tmp_path: Path) -> None:
    indexed = Image.fromarray((GRAY // 20 % 3).astype(np.uint8)).convert("P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indexed.save(tmp_path / "p.png")
    volume = read_picture(tmp_path / "p.png")
    assert volume.data.shape == (3, 3, 4)
    assert volume.data[:, 0, 1].tolist() == [40, 50, 60]
    assert volume.notices[0] == "P02: colour palette applied"
    gray = read_picture(save(tmp_path / "g.png", np.stack([GRAY] * 3, -1)))
    assert np.array_equal(gray.data.numpy(), GRAY[None])
    assert "one gray channel" in gray.notices[0]
    colour = np.stack([GRAY, GRAY + 1, GRAY], -1)
    assert np.array_equal(read_picture(save(tmp_path / "c.png", colour)).data.numpy(), colour.transpose(2, 0, 1))


def test_one_bit_is_zero_and_one(tmp_path: Path) -> None:
    volume = read_picture(save(tmp_path / "m.png", GRAY > 100))
    assert volume.data.dtype == torch.uint8
    assert np.array_equal(volume.data[0].numpy(), (GRAY > 100).astype(np.uint8))


def test_what_hides_information_is_refused(tmp_path: Path) -> None:
    rgb = np.stack([GRAY, GRAY + 1, GRAY], -1)
    with pytest.raises(InputError, match="transparency"):
        read_picture(save(tmp_path / "a.png", np.dstack([rgb, GRAY])))
    opaque = read_picture(save(tmp_path / "la.png", GRAY, "LA"))
    assert np.array_equal(opaque.data.numpy(), GRAY[None])
    assert opaque.notices == ("P03: opaque alpha channel dropped",)
    with pytest.raises(InputError, match="CMYK"):
        read_picture(save(tmp_path / "c.jpg", rgb, "CMYK"))
    with pytest.raises(InputError, match="kind F"):
        read_picture(save(tmp_path / "f.tif", GRAY.astype(np.float32)))
    page = Image.fromarray(GRAY)
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    with pytest.raises(InputError, match="2 pages"):
        read_picture(tmp_path / "pages.tif")
    Image.fromarray(rgb).save(tmp_path / "t.png", transparency=(0, 1, 0))
    with pytest.raises(InputError, match="transparency"):
        read_picture(tmp_path / "t.png")


def test_sixteen_bit_colour_is_refused_rather_than_halved(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(range(12)) for _ in range(2))
    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(png)
    with pytest.raises(InputError, match="16-bit colour"):
        read_picture(tmp_path / "deep.png")


def test_damage_is_refused_by_name(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    for name in ("a.png", "a.jpg"):
        content = save(tmp_path / name, noise).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=f"cut_{name}.*cannot be decoded"):
            read_picture(tmp_path / f"cut_{name}")
    (tmp_path / "text.png").write_bytes(b"no picture at all")
    with pytest.raises(InputError, match=r"text\.png"):
        read_picture(tmp_path / "text.png")
