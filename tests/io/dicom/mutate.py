"""One tag or one byte of an address-phantom series changed at random: what is then accepted must be right or told."""

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from medxai.core.volume import Volume
from medxai.errors import MedxaiError
from medxai.io.dicom import read_dicom
from tests.io.dicom.make import GRID
from tests.io.phantoms import address, farthest_mm, write_series

SHAPE = (7, 5, 5)
TOLERANCE_MM = 1e-3


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PLACING = _words("""
ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness Rows Columns BitsAllocated BitsStored
HighBit PixelRepresentation SamplesPerPixel PhotometricInterpretation PlanarConfiguration RescaleSlope
RescaleIntercept PixelData Modality
""")
"""What the file alone can know: where all slices agree on it, it is the truth, so it is changed in one slice only."""

OTHERS = _words("""
SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID FrameOfReferenceUID InstanceNumber NumberOfFrames
ImageType SpacingBetweenSlices SliceLocation PixelPaddingValue PixelPaddingRangeLimit WindowCenter WindowWidth
PresentationLUTShape LossyImageCompression BurnedInAnnotation SpecificCharacterSet AcquisitionNumber
TemporalPositionIdentifier EchoTime SeriesNumber PatientName PatientID GantryDetectorTilt RescaleType Units
GridFrameOffsetVector ImagerPixelSpacing FrameIncrementPointer SmallestImagePixelValue ExtendedOffsetTable
PixelAspectRatio PatientPosition TransferSyntaxUID ModalityLUTSequence SharedFunctionalGroupsSequence
PerFrameFunctionalGroupsSequence RedPaletteColorLookupTableDescriptor
""")

_NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 32, 255, 256, 1e-9, 0.1, 2.5, 1e6, -0.7, 1e300]),
    st.floats(-400, 400, width=32),
    st.integers(-70000, 70000),
)
_DECIMALS = st.one_of(
    _NUMBERS.map(lambda v: f"{v:.9g}"), st.sampled_from(["", "nan", "inf", "1,5", "1e5", "abc", " 2 "])
)
_TEXTS = st.one_of(
    st.sampled_from(
        ["", "CT", "DX", "MR", "YES", "NO", "01", "LOCALIZER", "MONOCHROME1", "RGB", "PALETTE COLOR", "1.2.3"]
    ),
    st.sampled_from(["1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2", "INVERSE"]),
    st.text(max_size=12),
)
_RAW = st.binary(max_size=24)


@dataclass(frozen=True)
class Mutation:
    """Slices to change, and the change: an element's new bytes (None: taken out), or bytes of the header."""

    slices: tuple[int, ...]
    keyword: str
    value: bytes | None
    flips: tuple[tuple[float, int], ...] = ()


def mutations() -> st.SearchStrategy[Mutation]:
    one = st.integers(0, SHAPE[2] - 1).map(lambda n: (n,))
    some = st.one_of(one, st.just(tuple(range(SHAPE[2]))))
    placing = st.sampled_from(PLACING).flatmap(lambda word: st.builds(Mutation, one, st.just(word), _value(word)))
    other = st.sampled_from(OTHERS).flatmap(lambda word: st.builds(Mutation, some, st.just(word), _value(word)))
    flip = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
    bytes_ = st.builds(Mutation, one, st.just(""), st.none(), st.lists(flip, min_size=1, max_size=2).map(tuple))
    return st.one_of(placing, other, bytes_)


def _value(keyword: str) -> st.SearchStrategy[bytes | None]:
    kind = dictionary_VR(tag_for_keyword(keyword)).split(" ")[0]
    if kind in {"US", "SS", "UL"}:
        code = {"US": "<H", "SS": "<h", "UL": "<I"}[kind]
        top = 2**32 if kind == "UL" else 2**16
        whole = st.one_of(st.sampled_from([0, 1, 4, 5, 7, 8, 11, 12, 14, 15, 16, 32]), st.integers(0, top - 1))
        values: st.SearchStrategy[bytes] = whole.map(lambda v: struct.pack(code, v % top - (top // 2) * (kind == "SS")))
    elif kind in {"DS", "IS"}:
        values = st.lists(_DECIMALS, min_size=0, max_size=6).map(lambda parts: "\\".join(parts).encode())
    elif kind == "SQ":
        return st.none() | st.just(b"SQ")
    else:
        values = _TEXTS.map(lambda text: text.encode("utf-8"))
    return st.none() | values | _RAW


@dataclass(frozen=True, eq=False)
class Base:
    """The unharmed series, its data sets and the bytes of its files."""

    folder: Path
    slices: Sequence[FileDataset]
    files: tuple[bytes, ...]


def base(folder: Path) -> Base:
    slices = write_series(folder, address(SHAPE), GRID)
    return Base(folder, slices, tuple(Path(s.filename).read_bytes() for s in slices))


def outcome(unharmed: Base, mutation: Mutation) -> str:
    """refused, told or right. Raises AssertionError for a silent lie, and lets any other exception through."""
    paths = [Path(s.filename) for s in unharmed.slices]
    for path, content in zip(paths, unharmed.files, strict=True):
        path.write_bytes(content)
    for n in mutation.slices:
        paths[n].write_bytes(mutated(unharmed, n, mutation))
    volume, code = _read(unharmed.folder)
    if volume is None:
        assert code, "a refusal without code"
        return "refused"
    if volume.notices:
        return "told"
    assert is_right(volume), f"silently wrong: {mutation}"
    return "right"


def _read(folder: Path) -> tuple[Volume | None, str]:
    try:
        return read_dicom(folder), ""
    except MedxaiError as refusal:
        return None, refusal.code


def is_right(volume: Volume) -> bool:
    stored = volume.data[0].numpy()
    whole = volume.geometry.shape == SHAPE and np.array_equal(np.sort(stored.ravel()), np.sort(address(SHAPE).ravel()))
    return bool(whole and farthest_mm(volume, GRID) < TOLERANCE_MM)


def mutated(unharmed: Base, n: int, mutation: Mutation) -> bytes:
    if mutation.flips:
        content = bytearray(unharmed.files[n])
        end = content.index(b"\xe0\x7f\x10\x00")
        for where, change in mutation.flips:
            content[132 + int(where * (end - 132))] ^= change
        return bytes(content)
    dataset, tag = _copy(unharmed.slices[n]), Tag(tag_for_keyword(mutation.keyword))
    holder: Any = dataset.file_meta if tag.group == 2 else dataset
    if mutation.value is None:
        holder.pop(tag, None)
    elif mutation.value == b"SQ":
        item = Dataset()
        item.SliceThickness = 3
        setattr(dataset, mutation.keyword, [item])
    else:
        kind = dictionary_VR(tag).split(" ")[0]
        value = mutation.value + b" " * (len(mutation.value) % 2)
        holder._dict[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
    path = unharmed.folder.parent / "mutated.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset.save_as(path, implicit_vr=False, little_endian=True)
        except Exception:  # pydicom refuses to write some of it: then nothing was changed
            return unharmed.files[n]
    return path.read_bytes()


def _copy(dataset: FileDataset) -> FileDataset:
    copy = FileDataset("", dict(dataset._dict), preamble=b"\0" * 128, file_meta=type(dataset.file_meta)())
    copy.file_meta._dict.update(dataset.file_meta._dict)
    return copy
