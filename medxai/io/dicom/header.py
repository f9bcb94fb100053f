"""The facts of one file, on an allow-list: what places and reads an image, never who it shows."""

import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID_dictionary

from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.dicom.scan import MAX_HEADER, Scan, scan
from medxai.io.source import unreadable


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COUNTS = _words("""
Rows Columns NumberOfFrames SamplesPerPixel PlanarConfiguration BitsAllocated BitsStored HighBit
PixelRepresentation MaximumFractionalValue PixelPaddingValue PixelPaddingRangeLimit
""")
_NEEDED = (
    *COUNTS,
    *_words("""
SOPClassUID SOPInstanceUID Modality ImageType SeriesInstanceUID FrameOfReferenceUID PhotometricInterpretation
ImagePositionPatient ImageOrientationPatient PixelSpacing ImagerPixelSpacing SliceThickness SpacingBetweenSlices
RescaleSlope RescaleIntercept RescaleType Units ModalityLUTSequence
LossyImageCompression PresentationLUTShape BurnedInAnnotation DoseGridScaling DoseUnits GridFrameOffsetVector
FrameIncrementPointer ExtendedOffsetTable ExtendedOffsetTableLengths SharedFunctionalGroupsSequence
PerFrameFunctionalGroupsSequence RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData GreenPaletteColorLookupTableData
BluePaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData SegmentationType DirectoryRecordSequence
"""),
)
DISTINGUISHING = _words("""
EchoTime EchoNumbers InversionTime TemporalPositionIdentifier DiffusionBValue TriggerTime ContentTime
AcquisitionTime AcquisitionNumber ConvolutionKernel ImageType SeriesNumber InstanceNumber KVP
""")
_HELPFUL = ("WindowCenter", "WindowWidth", "VOILUTSequence", "SeriesDescription", *DISTINGUISHING)
UNREADABLE = (
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    ArithmeticError,
    struct.error,
)


@dataclass(frozen=True, eq=False)
class Header:
    """The facts of one image: of a file, or of one frame of a file; its pixels are not read."""

    path: Path
    dataset: Dataset
    scan: Scan
    frame: int = 0
    frames: int = 1
    notices: tuple[str, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.path}, frame {self.frame + 1}" if self.frames > 1 else f"{self.path}"

    @property
    def kind(self) -> str:
        """The name of its class in the standard's dictionary, or nothing where it states none."""
        uid = self.dataset.get("SOPClassUID")
        return uid_name(str(uid)) if uid else ""

    @property
    def series(self) -> str:
        """A short name for its series that is safe to print: eight hexadecimal digits."""
        return series_key(str(self.dataset.get("SeriesInstanceUID") or ""))


_NAMES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}


def uid_name(uid: str) -> str:
    """What the standard calls it."""
    return _NAMES.get(uid) or str(UID_dictionary.get(uid, ("unknown class or syntax",))[0])


def series_key(uid: str) -> str:
    """The first eight hexadecimal digits of the SHA-256 of a series UID."""
    return sha256(uid.encode()).hexdigest()[:8]


def header_of(path: Path) -> Header | None:
    """The header at `path`, or None where the file is no DICOM. Raises `InputError`."""
    structure = scan(path)
    if structure is None:
        return None
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        dataset = parsed(structure, (*_NEEDED, *_HELPFUL))
        lost = refuse_unreadable(path, dataset)
    departures = sum(issubclass(remark.category, UserWarning) for remark in remarks)
    said = list(structure.notices)
    if lost:
        said.append(notice("D56", f"unreadable value ignored: {', '.join(lost)}"))
    if departures:
        said.append(notice("D56", f"{departures} departures from the DICOM standard in the header"))
    return Header(path, dataset, structure, notices=tuple(said))


def more_of(header: Header, keywords: Iterable[str]) -> Dataset:
    """Further elements of the same file. Raises `InputError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = parsed(header.scan, keywords)
        refuse_unreadable(header.path, dataset)
    return dataset


def parsed(structure: Scan, keywords: Iterable[str]) -> Dataset:
    """The elements of these keywords, and no others."""
    tags = [BaseTag(tag) for word in keywords if (tag := tag_for_keyword(word)) is not None]
    try:
        with structure.open() as file:
            file.seek(structure.start)
            return read_dataset(file, structure.implicit, structure.little, stop_when=_at_pixels, specific_tags=[*tags])
    except OSError as error:
        raise unreadable(structure.path, error) from error
    except UNREADABLE as error:
        raise InputError(
            f"{structure.path}: the DICOM header cannot be read.",
            code="D52",
            expected=f"a data set of at most {MAX_HEADER >> 20} MB before its pixels",
            found=type(error).__name__,
            remedy="Restore the file.",
        ) from error


def _at_pixels(tag: BaseTag, _kind: str | None, _length: int) -> bool:
    return tag >> 16 == 0x7FE0 and tag & 0xFFFF in {0x0008, 0x0009, 0x0010}


def refuse_unreadable(path: Path, dataset: Dataset) -> list[str]:
    """Convert every value now, so that none can fail later; a value that places nothing is dropped and named."""
    lost = []
    for tag in list(dataset.keys()):
        keyword = ""
        try:
            element = dataset[tag]
            keyword = element.keyword
            if element.VR == "SQ":
                for item in element.value:
                    _ = [inner.value for inner in item.iterall()]
            elif keyword in COUNTS and element.value is not None:
                int(element.value)
        except UNREADABLE as error:
            keyword = keyword or _keyword(tag)
            if keyword not in _HELPFUL and keyword != "SpecificCharacterSet":
                raise InputError(
                    f"{path}: {keyword} {tag} holds no value of its type.",
                    code="D56",
                    found=type(error).__name__,
                    remedy="Repair the header, or export the file again.",
                ) from error
            del dataset[tag]
            lost.append(keyword)
    return lost


def _keyword(tag: BaseTag) -> str:
    return next((word for word in (*_NEEDED, *_HELPFUL) if tag_for_keyword(word) == tag), "an element")
