"""Compression: lossless means equal, and a decoder that dies takes only its frame along."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from medxai.errors import InputError
from medxai.io.dicom import codec, read_dicom
from medxai.io.dicom.codec import Codec, CodecError
from medxai.io.dicom.codestream import Size, rle_segments, size_of
from medxai.io.options import ReadOptions
from tests.io.dicom.make import GRID, enhanced_of, film_of
from tests.io.phantoms import write_series

NOISE = np.random.default_rng(0).integers(-1024, 3000, (48, 40, 4), np.int16)
FACTS = {"syntax": str(JPEGLossless), "photometric": "MONOCHROME2"}


def lossless_jpeg(dataset: FileDataset) -> bytes:
    return bytes(imagecodecs.ljpeg_encode(dataset.pixel_array.view(np.uint16), bitspersample=16))


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
def test_lossless_jpeg_by_one_library_is_read_by_another(tmp_path: Path, syntax: str) -> None:
    written = write_series(tmp_path / "s", NOISE, GRID)
    plain = read_dicom(tmp_path / "s")
    for dataset in written:
        dataset.PixelData = encapsulate([lossless_jpeg(dataset)])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(dataset.filename, enforce_file_format=True)
    packed = read_dicom(tmp_path / "s")
    assert torch.equal(packed.data, plain.data)
    assert np.array_equal(packed.data[0].numpy(), NOISE)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("order", [None, [2, 0, 3, 1]])
def test_frames_of_one_object_are_unpacked_each_for_itself(
    tmp_path: Path, syntax: str, order: list[int] | None
) -> None:
    voxels = np.random.default_rng(1).integers(-1024, 3000, (64, 48, 4), np.int16)
    dataset = enhanced_of(voxels, GRID, order)
    dataset.compress(syntax)
    dataset.save_as(tmp_path / "e.dcm", enforce_file_format=True)
    assert np.array_equal(read_dicom(tmp_path / "e.dcm").data[0].numpy(), voxels)


def test_a_real_lossless_jpeg(data_dir: Callable[[str], Path]) -> None:
    volume = read_dicom(data_dir("dicom/pydicom_data") / "bad_sequence.dcm")
    assert (float(volume.data.min()), float(volume.data.max())) == (13 - 1024, 2267 - 1024)


def test_a_decoder_that_dies_or_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    frame = bytes(imagecodecs.ljpeg_encode(plane, bitspersample=16))
    with Codec(2**28) as decoder:
        assert np.array_equal(decoder.decode(frame, FACTS), plane)
        assert decoder._process is not None
        os.kill(decoder._process.pid, signal.SIGSEGV)
        with pytest.raises(CodecError, match="died"):
            decoder.decode(frame, FACTS)
        assert np.array_equal(decoder.decode(frame, FACTS), plane)
        monkeypatch.setattr(codec, "SECONDS", 0)
        decoder._end()
        with pytest.raises(CodecError, match="did not end"):
            decoder.decode(frame, FACTS)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda frame: frame[: len(frame) // 2],
    "end lost": lambda frame: frame[:300] + bytes(len(frame) - 300),
    "cut, with its end mark": lambda frame: frame[: len(frame) // 2] + b"\xff\xd9",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLossless, RLELossless])
def test_a_damaged_frame_is_refused_in_the_name_of_its_file(tmp_path: Path, syntax: str, damage: str) -> None:
    written = write_series(tmp_path / "s", NOISE, GRID)
    for dataset in written:
        if syntax == JPEGLossless:
            dataset.PixelData = encapsulate([lossless_jpeg(dataset)])
            dataset["PixelData"].VR = "OB"
            dataset.file_meta.TransferSyntaxUID = syntax
        else:
            dataset.compress(syntax)
        dataset.save_as(dataset.filename, enforce_file_format=True)
    victim = dcmread(written[1].filename)
    frame = next(generate_frames(victim.PixelData, number_of_frames=1))
    victim.PixelData = encapsulate([DAMAGE[damage](frame)])
    victim.save_as(written[1].filename, enforce_file_format=True)
    with pytest.raises(InputError, match=Path(written[1].filename).name) as refusal:
        read_dicom(tmp_path / "s")
    assert refusal.value.code in {"D10", "D59"}


def test_frame_headers_state_their_size() -> None:
    plane = np.zeros((3, 5), np.uint16)
    for frame in (
        imagecodecs.ljpeg_encode(plane, bitspersample=12),
        imagecodecs.jpegls_encode(plane),
        imagecodecs.jpeg2k_encode(plane, level=0),
        imagecodecs.jpeg8_encode(plane.astype(np.uint8)),
    ):
        size = size_of(bytes(frame))
        assert size is not None
        assert (size.rows, size.columns, size.components) == (3, 5, 1)
    assert size_of(bytes(imagecodecs.ljpeg_encode(plane, bitspersample=12))) == Size(3, 5, 1, 12)
    for broken in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00", b"\xff\x4f\xff\x51\x00", b"x" * 900):
        assert size_of(broken) is None
        assert rle_segments(broken) is None


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_the_luma_of_ybr_is_its_first_sample(tmp_path: Path, syntax: str | None) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    facts = {
        "PhotometricInterpretation": "YBR_FULL",
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "BitsAllocated": 8,
    }
    dataset = film_of(**facts, BitsStored=8, HighBit=7, PixelData=pixels.tobytes() + b"\0")
    if syntax:
        dataset.PixelData = pixels.tobytes()
        dataset.compress(syntax)
    dataset.save_as(tmp_path / "f.dcm", enforce_file_format=True)
    volume = read_dicom(tmp_path / "f.dcm", ReadOptions(gray=True))
    assert np.array_equal(volume.data[0].numpy(), pixels[..., 0])
