"""What the rows of bad DICOM do to a whole series: elements, bytes and files changed, added or taken away."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    KeyObjectSelectionDocumentStorage,
    generate_uid,
)

from tests.io.dicom import make
from tests.io.dicom.make import GRID, Build, Slices, series, without


def cut_pixels(slices: Slices) -> None:
    slices[2].PixelData = slices[2].PixelData[:-10]


def longer(extra: int) -> Callable[[Slices], None]:
    def change(slices: Slices) -> None:
        for s in slices:
            s.PixelData += bytes(extra)

    return change


def tall(slices: Slices) -> None:
    slices[2].Rows, slices[2].PixelData = 4, slices[2].PixelData[: 4 * 7 * 2]


def shuffled(slices: Slices) -> None:
    for s, number in zip(slices, (4, 1, 6, 2, 5, 3), strict=True):
        s.InstanceNumber = number


def backwards(slices: Slices) -> None:
    for n, s in enumerate(slices):
        path = Path(s.filename)
        s.filename = str(path.rename(path.with_name(f"z{9 - n}.dcm")))


def twin(**facts: object) -> Callable[[Slices], None]:
    """Slice 2 once more, in a file of its own, with these facts changed."""

    def change(slices: Slices) -> None:
        copy = dcmread(slices[2].filename)
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        for keyword, value in facts.items():
            setattr(copy, keyword, value)
        copy.save_as(Path(slices[2].filename).with_name("again.dcm"))

    return change


def tilted() -> tuple[tuple[float, ...], ...]:
    grid = GRID.copy()
    grid[:3, 2] += [0.0, 0.8, 0.0]
    return tuple(map(tuple, grid))


def giant_codestream(dataset: FileDataset) -> bytes:
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    at = frame.index(b"\xff\x4f\xff\x51") + 8
    return frame[:at] + struct.pack(">2I", 65535, 65535) + frame[at + 8 :]


def overlay(slices: Slices) -> None:
    for s in slices:
        s.BitsStored, s.HighBit, s.PixelRepresentation = 12, 11, 0
        s.PixelData = (np.frombuffer(s.PixelData, np.uint16) | 0x8000).astype(np.uint16).tobytes()


def unextended(slices: Slices) -> None:
    """Signed values of 12 bits below zero, their upper four bits left empty."""
    for s in slices:
        s.BitsStored, s.HighBit, s.RescaleIntercept = 12, 11, 2000
        s.PixelData = ((np.frombuffer(s.PixelData, np.int16) - 2000) & 0x0FFF).astype(np.uint16).tobytes()


def per_slice(slices: Slices) -> None:
    for n, s in enumerate(slices):
        values = np.frombuffer(s.PixelData, np.int16)
        s.RescaleSlope, s.RescaleIntercept = 0.5, 10 * n
        s.PixelData = ((values - 10 * n) * 2).astype(np.int16).tobytes()


def lut(slices: Slices) -> None:
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


def report() -> FileDataset:
    dataset = make.alone(Modality="KO")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = KeyObjectSelectionDocumentStorage
    without("Rows", "Columns", "PixelData", "ImagePositionPatient")([dataset])
    return dataset


def no_preamble(content: bytes) -> bytes:
    return content[make.data_set_at(content) :]


def mixed_syntax(content: bytes) -> bytes:
    return content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0", 1)


def before_rows(insert: bytes) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        at = content.index(b"\x28\x00\x02\x00US")
        return content[:at] + insert + content[at:]

    return edit


def nested(depth: int) -> bytes:
    return raw_sequence() * depth + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth


def raw_sequence() -> bytes:
    """A private sequence and an item, both opened."""
    return make.raw_element(0x0021, 0x1010, b"SQ", 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"


def meta_bomb(content: bytes) -> bytes:
    return content[:144] + make.raw_element(0x0002, 0x0001, b"OB", 0xFFFFFFF0, b"\0\1") + content[144:]


def bad_is(content: bytes) -> bytes:
    element = make.raw_element(0x0028, 0x0008, b"IS", 2, b"1A")
    return before_rows(element)(content)


def half_a_number(content: bytes) -> bytes:
    """BitsAllocated of type UL, whose values have four bytes."""
    return content.replace(b"\x28\x00\x00\x01US", b"\x28\x00\x00\x01UL")


def rle_zero(dataset: FileDataset) -> bytes:
    return struct.pack("<16I", 0, *[0] * 15)


def big_series(folder: Path) -> Path:
    path = series()(folder)
    for n, file in enumerate(sorted(path.iterdir())):
        inner = path / f"part {n % 3}" / "deep"
        inner.mkdir(parents=True, exist_ok=True)
        file.rename(inner / file.name)
    (path / "loop").symlink_to(path, target_is_directory=True)
    return path


def two_series(folder: Path) -> Path:
    path = series()(folder)
    for file in sorted(path.iterdir()):
        dataset = dcmread(file)
        dataset.SeriesInstanceUID = "1.2.3.4.5"
        dataset.save_as(path / f"other-{file.name}")
    return path


def directory(escape: bool) -> Build:
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


def colour(photometric: str) -> Build:
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


def palette(folder: Path) -> Path:
    facts: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR", "BitsAllocated": 8, "BitsStored": 8}
    facts |= {"HighBit": 7, "PixelData": bytes(range(35)) + b"\0"}
    dataset = make.film_of(**facts)
    for n, colour in enumerate(("Red", "Green", "Blue")):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        table = (np.arange(256, dtype=np.uint16) * (200 - 50 * n)).tobytes()
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", table)
    dataset.save_as(folder / "palette.dcm", enforce_file_format=True)
    return folder / "palette.dcm"


def two_stacks(dataset: FileDataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0].StackID = "2"


def two_times(dataset: FileDataset) -> None:
    first, second = dataset.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence = first.PlanePositionSequence
    for n, frame in enumerate((first, second)):
        frame.FrameContentSequence[0].TemporalPositionIndex = n + 1


def hostile(slices: Slices) -> None:
    for s in slices:
        s.SpecificCharacterSet = "ISO_IR 999"
        s.SeriesDescription = "$(touch pwned) %n <script>alert(1)</script>"
        s.add_new(0x00110010, "LO", "<script>")


def bytes_in_names(content: bytes) -> bytes:
    return content.replace(b"CANARY", b"\x00\x1b[2J\xff", 1)
