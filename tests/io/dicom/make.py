"""Ways to write DICOM: the address phantom as slices or as one enhanced object, and the means to damage it."""

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    RTDoseStorage,
    generate_uid,
)

from medxai.shapes import Affine
from tests.io.phantoms import address, ct_slice, write_series

GRID = np.array([[-0.7, 0, 0, -20], [0, -0.9, 0, 30], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
Slices = list[FileDataset]
Build = Callable[[Path], Path]


def series(*changes: Callable[[Slices], object], shape: Sequence[int] = (7, 5, 6), grid: Affine = GRID) -> Build:
    """The address phantom as a series, changed before it is saved."""

    def build(folder: Path) -> Path:
        written = write_series(folder / "series", address(tuple(shape)), grid, numbered=True)
        for change in changes:
            change(written)
        for dataset in written:
            if Path(dataset.filename).exists():
                dataset.save_as(dataset.filename, enforce_file_format=True)
        return folder / "series"

    return build


def every(**facts: object) -> Callable[[Slices], None]:
    """Set elements in all slices."""
    return lambda slices: [setattr(s, keyword, value) for s in slices for keyword, value in facts.items()] and None


def one(n: int = 2, **facts: object) -> Callable[[Slices], None]:
    """Set elements in slice `n`."""
    return lambda slices: every(**facts)(slices[n : n + 1])


def without(*keywords: str, which: slice = slice(None)) -> Callable[[Slices], None]:
    """Take elements out."""

    def change(slices: Slices) -> None:
        for dataset in slices[which]:
            for keyword in keywords:
                if keyword in dataset:
                    delattr(dataset, keyword)

    return change


def removed(*numbers: int) -> Callable[[Slices], None]:
    """Delete the files of these slices."""
    return lambda slices: [Path(slices[n].filename).unlink() for n in numbers] and None


def moved(offsets: Sequence[float]) -> Callable[[Slices], None]:
    """Put slice n at `offsets[n]` mm above the first."""

    def change(slices: Slices) -> None:
        x, y, z = (float(v) for v in slices[0].ImagePositionPatient)
        for dataset, offset in zip(slices, offsets, strict=True):
            dataset.ImagePositionPatient = [x, y, z + offset]

    return change


def compressed(syntax: str) -> Callable[[Slices], None]:
    """Compress all slices."""
    return lambda slices: [s.compress(syntax) for s in slices] and None


def relabelled(syntax: str, frame: Callable[[FileDataset], bytes]) -> Callable[[Slices], None]:
    """Give all slices a transfer syntax and one compressed frame, as they are."""

    def change(slices: Slices) -> None:
        for s in slices:
            s.PixelData = encapsulate([frame(s)])
            s["PixelData"].is_undefined_length = True
            s["PixelData"].VR = "OB"
            s.file_meta.TransferSyntaxUID = syntax

    return change


def edited(build: Build, edit: Callable[[bytes], bytes], n: int = 2) -> Build:
    """`build`, then the bytes of its n-th file changed."""

    def made(folder: Path) -> Path:
        path = build(folder)
        victim = sorted(path.iterdir())[n] if path.is_dir() else path
        victim.write_bytes(edit(victim.read_bytes()))
        return path

    return made


def beside(build: Build, name: str, content: bytes | Dataset) -> Build:
    """`build`, with another file in its folder."""

    def made(folder: Path) -> Path:
        path = build(folder)
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (path / name).write_bytes(content)
        else:
            content.save_as(path / name, enforce_file_format=True)
        return path

    return made


def bundled(name: str) -> Build:
    """A file that pydicom brings along."""
    return lambda folder: BUNDLED / name


def alone(**facts: object) -> FileDataset:
    """One slice of its own series."""
    dataset = ct_slice(address((7, 5, 1))[:, :, 0], GRID, 0, generate_uid(), generate_uid())
    for keyword, value in facts.items():
        setattr(dataset, keyword, value)
    return dataset


def single(*changes: Callable[[Slices], object], name: str = "one.dcm") -> Build:
    """One slice in one file."""

    def build(folder: Path) -> Path:
        dataset = alone()
        for change in changes:
            change([dataset])
        dataset.save_as(folder / name, enforce_file_format=True)
        return folder / name

    return build


def film(**facts: object) -> Build:
    """A DX film of (5, 7) pixels holding 16 * row + column."""

    def build(folder: Path) -> Path:
        film_of(**facts).save_as(folder / "film.dcm", enforce_file_format=True)
        return folder / "film.dcm"

    return build


def film_of(**facts: object) -> FileDataset:
    dataset = alone(Modality="DX", PixelRepresentation=0, BitsStored=12, HighBit=11, BurnedInAnnotation="NO")
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"):
        delattr(dataset, keyword)
    for keyword, value in facts.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced(
    order: Sequence[int] | None = None,
    change: Callable[[FileDataset], object] = lambda dataset: None,
    grid: Affine = GRID,
    shape: Sequence[int] = (7, 5, 6),
) -> Build:
    """The address phantom as one enhanced CT object, its frames stored in this order."""

    def build(folder: Path) -> Path:
        dataset = enhanced_of(address(tuple(shape)), grid, order)
        change(dataset)
        dataset.save_as(folder / "enhanced.dcm", enforce_file_format=True)
        return folder / "enhanced.dcm"

    return build


def enhanced_of(voxels: NDArray[np.int16], grid: Affine, order: Sequence[int] | None = None) -> FileDataset:
    count = voxels.shape[2]
    slices = [ct_slice(voxels[:, :, k], grid, k, "1.2.3", "1.2.4") for k in (order or range(count))]
    dataset, first = slices[0], slices[0]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    shared = Dataset()
    measures, orientation, values = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, 0, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [values]
    frames = []
    for n, plane in enumerate(slices):
        position, content, frame = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = plane.ImagePositionPatient
        content.StackID, content.InStackPositionNumber = "1", n + 1
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        frames.append(frame)
    dataset.PixelData = b"".join(plane.PixelData for plane in slices)
    dataset.NumberOfFrames = count
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    for keyword in [
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "RescaleSlope",
        "RescaleIntercept",
    ]:
        delattr(dataset, keyword)
    return dataset


def dose(**facts: object) -> Build:
    """The address phantom as an RT dose of 0.5 Gy per stored step."""

    def build(folder: Path) -> Path:
        voxels = address((7, 5, 6))
        slices = [ct_slice(voxels[:, :, k], GRID, k, "1.2.3", "1.2.4") for k in range(6)]
        dataset = slices[0]
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RTDoseStorage
        dataset.Modality, dataset.NumberOfFrames, dataset.DoseGridScaling = "RTDOSE", 6, 0.5
        dataset.GridFrameOffsetVector = [2.5 * k for k in range(6)]
        dataset.PixelData = b"".join(plane.PixelData for plane in slices)
        del dataset.RescaleSlope, dataset.RescaleIntercept
        for keyword, value in facts.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / "dose.dcm", enforce_file_format=True)
        return folder / "dose.dcm"

    return build


def raw_element(group: int, element: int, kind: bytes, length: int, value: bytes = b"") -> bytes:
    """An explicit little endian element with any length one likes."""
    head = struct.pack("<HH", group, element) + kind
    long = kind in {b"SQ", b"OB", b"OW", b"UN", b"UT"}
    return head + (struct.pack("<HI", 0, length) if long else struct.pack("<H", length)) + value


def data_set_at(content: bytes) -> int:
    """Where the data set begins in a file that `write_series` wrote."""
    return 132 + 12 + struct.unpack("<I", content[140:144])[0]


def deflated(build: Build, size: int) -> Build:
    """One file whose data set is deflated and ends in `size` zero bytes of pixels."""

    def made(folder: Path) -> Path:
        path = build(folder)
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        del dataset.PixelData
        dataset.save_as(path)
        whole = path.read_bytes()
        start = data_set_at(whole)
        meta = whole[:start].replace(_syntax(ExplicitVRLittleEndian), _syntax(DeflatedExplicitVRLittleEndian))
        grown = len(meta) - start
        meta = meta[:140] + struct.pack("<I", struct.unpack("<I", meta[140:144])[0] + grown) + meta[144:]
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        parts = [packer.compress(whole[start:] + raw_element(0x7FE0, 0x0010, b"OW", size))]
        parts += [packer.compress(bytes(min(2**20, size - n))) for n in range(0, size, 2**20)]
        path.write_bytes(meta + b"".join(parts) + packer.flush())
        return path

    return made


def _syntax(uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return raw_element(0x0002, 0x0010, b"UI", len(value), value)
