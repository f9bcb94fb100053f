"""The DICOM rows of docs/bad_inputs.md: each an input, and what must become of it."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    KeyObjectSelectionDocumentStorage,
    RLELossless,
    generate_uid,
)

from medxai.io.options import DEFAULT, ReadOptions
from tests.io.dicom import make
from tests.io.dicom.make import GRID, Build, Slices, every, moved, one, removed, series, without

Fate = Literal["refused", "told", "accepted"]
SCALED = ReadOptions(gray=True)


@dataclass(frozen=True)
class Row:
    """One input: refused with its code, accepted with a notice of that code, or simply accepted.

    Where `placed`, accepted voxels must lie where the address phantom on `grid` says.
    """

    code: str
    name: str
    fate: Fate
    build: Build
    options: ReadOptions = DEFAULT
    placed: bool = True
    grid: tuple[tuple[float, ...], ...] = tuple(map(tuple, GRID))


def refused(code: str, name: str, build: Build, options: ReadOptions = DEFAULT) -> Row:
    return Row(code, name, "refused", build, options, placed=False)


def told(code: str, name: str, build: Build, options: ReadOptions = DEFAULT, placed: bool = True) -> Row:
    return Row(code, name, "told", build, options, placed)


def accepted(code: str, name: str, build: Build, options: ReadOptions = DEFAULT, placed: bool = True) -> Row:
    return Row(code, name, "accepted", build, options, placed)


def _cut_pixels(slices: Slices) -> None:
    slices[2].PixelData = slices[2].PixelData[:-10]


def _longer(extra: int) -> Callable[[Slices], None]:
    def change(slices: Slices) -> None:
        for s in slices:
            s.PixelData += bytes(extra)

    return change


def _tall(slices: Slices) -> None:
    slices[2].Rows, slices[2].PixelData = 4, slices[2].PixelData[: 4 * 7 * 2]


def _backwards(slices: Slices) -> None:
    for n, s in enumerate(slices):
        path = Path(s.filename)
        s.filename = str(path.rename(path.with_name(f"z{9 - n}.dcm")))


def _twin(**facts: object) -> Callable[[Slices], None]:
    """Slice 2 once more, in a file of its own, with these facts changed."""

    def change(slices: Slices) -> None:
        copy = dcmread(slices[2].filename)
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        for keyword, value in facts.items():
            setattr(copy, keyword, value)
        copy.save_as(Path(slices[2].filename).with_name("again.dcm"))

    return change


def _tilted() -> tuple[tuple[float, ...], ...]:
    grid = GRID.copy()
    grid[:3, 2] += [0.0, 0.8, 0.0]
    return tuple(map(tuple, grid))


def _giant_codestream(dataset: FileDataset) -> bytes:
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    at = frame.index(b"\xff\x4f\xff\x51") + 8
    return frame[:at] + struct.pack(">2I", 65535, 65535) + frame[at + 8 :]


def _overlay(slices: Slices) -> None:
    for s in slices:
        s.BitsStored, s.HighBit, s.PixelRepresentation = 12, 11, 0
        s.PixelData = (np.frombuffer(s.PixelData, np.uint16) | 0x8000).astype(np.uint16).tobytes()


def _unextended(slices: Slices) -> None:
    """Signed values of 12 bits below zero, their upper four bits left empty."""
    for s in slices:
        s.BitsStored, s.HighBit, s.RescaleIntercept = 12, 11, 2000
        s.PixelData = ((np.frombuffer(s.PixelData, np.int16) - 2000) & 0x0FFF).astype(np.uint16).tobytes()


def _per_slice(slices: Slices) -> None:
    for n, s in enumerate(slices):
        values = np.frombuffer(s.PixelData, np.int16)
        s.RescaleSlope, s.RescaleIntercept = 0.5, 10 * n
        s.PixelData = ((values - 10 * n) * 2).astype(np.int16).tobytes()


def _lut(slices: Slices) -> None:
    """A table that adds 10: the stored values are 10 less."""
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [2048, 0, 16])
    table.add_new("LUTData", "US", [v + 10 for v in range(2048)])
    table.ModalityLUTType = "HU"
    for s in slices:
        s.PixelRepresentation = 0
        stored = np.frombuffer(s.PixelData, np.int16).astype(np.int32) - 10
        s.PixelData = stored.clip(0).astype(np.uint16).tobytes()
        s.ModalityLUTSequence = [table]
    without("RescaleSlope", "RescaleIntercept")(slices)


def _report() -> FileDataset:
    dataset = make.alone(Modality="KO")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = KeyObjectSelectionDocumentStorage
    without("Rows", "Columns", "PixelData", "ImagePositionPatient")([dataset])
    return dataset


def _no_preamble(content: bytes) -> bytes:
    return content[make.data_set_at(content) :]


def _mixed_syntax(content: bytes) -> bytes:
    return content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0", 1)


def _before_rows(insert: bytes) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        at = content.index(b"\x28\x00\x02\x00US")
        return content[:at] + insert + content[at:]

    return edit


def _nested(depth: int) -> bytes:
    return raw_sequence() * depth + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth


def raw_sequence() -> bytes:
    """A private sequence and an item, both opened."""
    return make.raw_element(0x0021, 0x1010, b"SQ", 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"


def _meta_bomb(content: bytes) -> bytes:
    return content[:144] + make.raw_element(0x0002, 0x0001, b"OB", 0xFFFFFFF0, b"\0\1") + content[144:]


def _bad_is(content: bytes) -> bytes:
    element = make.raw_element(0x0028, 0x0008, b"IS", 2, b"1A")
    return _before_rows(element)(content)


def _rle_zero(dataset: FileDataset) -> bytes:
    return struct.pack("<16I", 0, *[0] * 15)


def _big_series(folder: Path) -> Path:
    path = series()(folder)
    for n, file in enumerate(sorted(path.iterdir())):
        inner = path / f"part {n % 3}" / "deep"
        inner.mkdir(parents=True, exist_ok=True)
        file.rename(inner / file.name)
    (path / "loop").symlink_to(path, target_is_directory=True)
    return path


def _two_series(folder: Path) -> Path:
    path = series()(folder)
    for file in sorted(path.iterdir()):
        dataset = dcmread(file)
        dataset.SeriesInstanceUID = "1.2.3.4.5"
        dataset.save_as(path / f"other-{file.name}")
    return path


def _directory(escape: bool) -> Build:
    def build(folder: Path) -> Path:
        path = series()(folder)
        records = []
        for file in sorted(path.iterdir()):
            record = Dataset()
            record.DirectoryRecordType = "IMAGE"
            record.ReferencedFileID = ["..", "series", file.name] if escape else [file.name]
            records.append(record)
        directory = make.alone()
        without("Rows", "Columns", "PixelData", "Modality")([directory])
        uid = "1.2.840.10008.1.3.10"
        directory.SOPClassUID = directory.file_meta.MediaStorageSOPClassUID = uid
        directory.DirectoryRecordSequence = records
        directory.save_as(path / "DICOMDIR", enforce_file_format=True)
        return path / "DICOMDIR"

    return build


def _colour(photometric: str) -> Build:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    facts = {
        "PhotometricInterpretation": photometric,
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelData": pixels.tobytes(),
    }
    return make.film(**facts)


def _palette(folder: Path) -> Path:
    facts: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR", "BitsAllocated": 8, "BitsStored": 8}
    facts |= {"HighBit": 7, "PixelData": bytes(range(35)) + b"\0"}
    dataset = make.film_of(**facts)
    for n, colour in enumerate(("Red", "Green", "Blue")):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        table = (np.arange(256, dtype=np.uint16) * (200 - 50 * n)).tobytes()
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", table)
    dataset.save_as(folder / "palette.dcm", enforce_file_format=True)
    return folder / "palette.dcm"


def _two_stacks(dataset: FileDataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0].StackID = "2"


def _two_times(dataset: FileDataset) -> None:
    first, second = dataset.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence = first.PlanePositionSequence
    for n, frame in enumerate((first, second)):
        frame.FrameContentSequence[0].TemporalPositionIndex = n + 1


def _hostile(slices: Slices) -> None:
    for s in slices:
        s.SpecificCharacterSet = "ISO_IR 999"
        s.SeriesDescription = "$(touch pwned) %n <script>alert(1)</script>"
        s.add_new(0x00110010, "LO", "<script>")


def _bytes_in_names(content: bytes) -> bytes:
    return content.replace(b"CANARY", b"\x00\x1b[2J\xff", 1)


ROWS: tuple[Row, ...] = (
    refused("D01", "pixels shorter than the image", series(_cut_pixels)),
    refused("D02", "file cut within its pixels", make.edited(series(), lambda b: b[:-20])),
    refused("D02", "a real file cut within its pixels", make.bundled("MR_truncated.dcm")),
    refused("D03", "file cut within its header", make.edited(series(), lambda b: b[:500])),
    refused("D03", "a real file cut within its header", make.bundled("rtplan_truncated.dcm")),
    refused("D04", "frames more than promised", series(_longer(140))),
    told("D04", "a few bytes more than promised", series(_longer(6))),
    accepted("D04", "one byte of padding", make.bundled("MR_small_padded.dcm"), placed=False),
    refused("D05", "BitsAllocated says 8, the pixels have 16", series(every(BitsAllocated=8, BitsStored=8, HighBit=7))),
    refused("D05", "BitsAllocated says 32, the pixels have 16", series(every(BitsAllocated=32))),
    refused("D06", "no rows", series(every(Rows=0))),
    refused("D06", "no columns", make.single(every(Columns=0))),
    refused("D01", "65535 x 65535 pixels in 70 bytes", series(every(Rows=65535, Columns=65535))),
    refused("D07", "more voxels than permitted", series(), ReadOptions(max_gib=1e-7)),
    refused("D08", "2^31 - 1 frames", series(every(NumberOfFrames=2**31 - 1))),
    refused("D09", "a deflated data set of 128 MB of nothing", make.deflated(make.single(), 128 * 2**20)),
    refused(
        "D10",
        "a codestream of another size",
        series(
            make.compressed(JPEG2000Lossless), make.relabelled(JPEG2000Lossless, _giant_codestream), shape=(64, 64, 3)
        ),
    ),
    refused(
        "D10",
        "a giant codestream, a giant header",
        series(
            make.compressed(JPEG2000Lossless),
            make.relabelled(JPEG2000Lossless, _giant_codestream),
            every(Rows=65535, Columns=65535),
            shape=(64, 64, 3),
        ),
    ),
    refused("D11", "a video codec", series(make.relabelled("1.2.840.10008.1.2.4.100", lambda s: bytes(64)))),
    told("D12", "compressed with loss", series(every(LossyImageCompression="01"))),
    refused("D13", "no position", series(without("ImagePositionPatient"))),
    told("D13", "a film without position", make.film(), placed=False),
    refused("D14", "one slice without position", series(without("ImagePositionPatient", which=slice(2, 3)))),
    refused("D15", "no orientation", series(without("ImageOrientationPatient"))),
    refused("D16", "skewed axes", series(every(ImageOrientationPatient=[1, 0, 0, 0.1, 0.995, 0]))),
    told("D16", "axes skewed by rounding", series(every(ImageOrientationPatient=[1, 0, 0, 1e-4, 1, 0]))),
    refused("D17", "another orientation in one slice", series(one(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]))),
    refused("D18", "no pixel spacing", series(without("PixelSpacing"))),
    refused("D18", "zero pixel spacing", series(every(PixelSpacing=[0, 1]))),
    refused("D18", "negative pixel spacing", series(every(PixelSpacing=[1, -1]))),
    told(
        "D18",
        "a film with the spacing of its detector",
        make.film(PixelSpacing=None, ImagerPixelSpacing=[1, 1]),
        placed=False,
    ),
    refused("D19", "another pixel spacing in one slice", series(one(PixelSpacing=[0.8, 0.7]))),
    refused("D20", "two missing slices", series(removed(2, 4), shape=(7, 5, 12))),
    told("D20", "two missing slices, permitted", series(removed(2, 4), shape=(7, 5, 12)), ReadOptions(allow_gaps=True)),
    refused("D21", "uneven slices", series(moved([0, 2.5, 5, 8.2, 11.9, 14]))),
    told(
        "D21",
        "uneven slices, permitted",
        series(moved([0, 2.5, 5, 8.2, 11.9, 14])),
        ReadOptions(resample_irregular=True),
        placed=False,
    ),
    told("D22", "a slice twice", series(_twin())),
    refused("D23", "two different slices in one plane", series(_twin(PixelData=bytes(70), EchoTime=20))),
    refused("D24", "two series", _two_series),
    accepted("D24", "two series, one chosen", _two_series, ReadOptions(series="1.2.3.4.5")),
    refused("D25", "a localizer of the same shape", series(one(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))),
    refused("D25", "a slice of another shape", series(_tall)),
    refused("D26", "two frames of reference", series(one(FrameOfReferenceUID="1.2.3"))),
    Row("D27", "a tilted gantry", "told", series(grid=np.array(_tilted())), grid=_tilted()),
    accepted("D28", "InstanceNumber missing", series(without("InstanceNumber"))),
    accepted("D28", "InstanceNumber all 1", series(every(InstanceNumber=1))),
    accepted("D29", "slices named from head to foot", series(_backwards)),
    accepted("D30", "a single slice", series(shape=(7, 5, 1))),
    refused("D30", "a single slice without thickness", series(without("SliceThickness"), shape=(7, 5, 1))),
    told("D31", "a film in negative", make.film(PhotometricInterpretation="MONOCHROME1"), placed=False),
    told("D31", "slices called negative", series(every(PhotometricInterpretation="MONOCHROME1"))),
    told("D32", "a display table that inverts", make.film(PresentationLUTShape="INVERSE"), placed=False),
    told("D33", "a modality lookup table", series(_lut), placed=False),
    told("D34", "a window of no width", series(every(WindowCenter=40, WindowWidth=0))),
    told("D34", "several windows", series(every(WindowCenter=[40, 300], WindowWidth=[400, 1500]))),
    refused("D35", "rescale slope 0", series(every(RescaleSlope=0))),
    told("D36", "a slope for each slice", series(_per_slice)),
    refused("D37", "rescale in some slices", series(without("RescaleSlope", "RescaleIntercept", which=slice(2, 3)))),
    told("D38", "an overlay in the upper bits", series(_overlay)),
    refused("D38", "more bits stored than allocated", series(every(BitsStored=17, HighBit=16))),
    told("D39", "signed values not extended", series(_unextended)),
    told("D40", "padding kept", series(every(PixelPaddingValue=0))),
    told("D40", "padding as NaN", series(every(PixelPaddingValue=0)), ReadOptions(nan_padding=True)),
    refused("D41", "a palette", _palette),
    told("D41", "a palette, permitted", _palette, SCALED, placed=False),
    refused("D42", "colour", _colour("RGB")),
    told("D42", "colour, permitted", _colour("RGB"), SCALED, placed=False),
    told("D42", "YBR, permitted", _colour("YBR_FULL"), SCALED, placed=False),
    accepted("D43", "an enhanced object", make.enhanced()),
    refused("D43", "frames without a place", series(every(NumberOfFrames=3))),
    accepted("D44", "an enhanced object, frames shuffled", make.enhanced([3, 0, 5, 1, 4, 2])),
    refused("D44", "an enhanced object of two stacks", make.enhanced(change=_two_stacks)),
    refused("D44", "an enhanced object of two times", make.enhanced(change=_two_times)),
    refused(
        "D44", "fewer groups than frames", make.enhanced(change=lambda d: d.PerFrameFunctionalGroupsSequence.pop())
    ),
    told("D45", "a dose", make.dose(), placed=False),
    told("D45", "a real dose", make.bundled("rtdose.dcm"), placed=False),
    told("D45", "a real dose, big endian", make.bundled("rtdose_expb.dcm"), placed=False),
    refused("D45", "a dose whose planes start nowhere", make.dose(GridFrameOffsetVector=[7, 8, 9, 10, 11, 12])),
    told("D49", "a key object among the slices", make.beside(series(), "ko", _report())),
    refused("D49", "a report instead of an image", make.bundled("test-SR.dcm")),
    refused("D49", "a waveform instead of an image", make.bundled("waveform_ecg.dcm")),
    accepted("D50", "a DICOMDIR", _directory(escape=False)),
    refused("D50", "a DICOMDIR that leads out of its folder", _directory(escape=True)),
    told(
        "D51",
        "Thumbs.db, AppleDouble and a text",
        make.beside(
            make.beside(make.beside(series(), "Thumbs.db", b"x"), "._1.dcm", b"\0\5\x16\7"), "readme.txt", b"hello"
        ),
    ),
    refused(
        "D52",
        "random bytes marked DICM",
        make.edited(make.single(), lambda b: b[:132] + np.random.default_rng(1).bytes(4000)),
    ),
    refused("D52", "a slice of zeros", make.edited(series(), lambda b: bytes(len(b)))),
    told(
        "D53",
        "no preamble and no meta information",
        make.edited(make.edited(series(shape=(7, 5, 2)), _no_preamble, 0), _no_preamble, 1),
    ),
    refused(
        "D53",
        "no transfer syntax, and data of none",
        make.edited(make.single(), lambda b: b.replace(b"\2\0\x10\0UI", b"\2\0\x12\0UI")[:-3]),
    ),
    accepted("D54", "big endian", make.bundled("MR_small_bigendian.dcm"), placed=False),
    refused("D55", "explicit data called implicit", make.edited(series(), _mixed_syntax)),
    refused("D55", "a real file, implicit data called explicit", make.bundled("SC_rgb_jpeg.dcm")),
    refused("D56", "NumberOfFrames 1A", make.edited(series(), _bad_is)),
    refused("D56", "a real file of bad values", make.bundled("badVR.dcm")),
    refused("D57", "sequences 100 deep", make.edited(series(), _before_rows(_nested(100)))),
    refused(
        "D57",
        "an element twice",
        make.edited(series(), _before_rows(make.raw_element(0x0028, 0x0030, b"DS", 4, b"1\\2 "))),
    ),
    refused("D57", "a stray delimiter", make.edited(series(), _before_rows(b"\xfe\xff\x0d\xe0\0\0\0\0"))),
    refused("D58", "4 GB claimed in the meta information", make.edited(series(), _meta_bomb)),
    refused(
        "D58",
        "4 GB claimed in the header",
        make.edited(series(), _before_rows(make.raw_element(0x0021, 0x1010, b"OB", 0xFFFFFFF0))),
    ),
    refused("D59", "run-length coding of no segments", series(make.relabelled(RLELossless, _rle_zero))),
    accepted("D60", "unknown character set", series(_hostile)),
    accepted("D60", "control characters in a name", make.edited(series(), _bytes_in_names)),
    told("D61", "a script for a modality", series(every(Modality="<script>"))),
    told("D62", "a name burned in", make.film(BurnedInAnnotation="YES"), placed=False),
    refused(
        "D62", "a name burned in, not permitted", make.film(BurnedInAnnotation="YES"), ReadOptions(strict_phi=True)
    ),
    told("D62", "an ultrasound that does not say", make.single(every(Modality="US")), placed=False),
    told("D63", "folders, and a link that loops", _big_series),
    told("D65", "a Windows program before the data", make.edited(series(), lambda b: b"MZ" + b[2:])),
    accepted("D54", "JPEG 2000", series(make.compressed(JPEG2000Lossless), shape=(64, 40, 3)), placed=False),
    accepted("D54", "JPEG-LS", series(make.compressed(JPEGLSLossless), shape=(64, 40, 3)), placed=False),
    accepted("D54", "run-length coding", series(make.compressed(RLELossless)), placed=True),
)
