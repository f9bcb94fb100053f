"""A patient whose every attribute is a marker, and a search for markers in bytes, however they are coded."""

import base64
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.datadict import DicomDictionary
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from medxai.shapes import Affine
from tests.io.phantoms import address, write_series

TEXT, NUMBER = "ZQX", "770077"  # every marker of text begins with the one, every marker of digits holds the other
STRUCTURE = {
    "SpecificCharacterSet", "SOPClassUID", "ImageType", "Modality", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames",
    "PlanarConfiguration", "PresentationLUTShape", "PixelIntensityRelationship", "BurnedInAnnotation",
    "LossyImageCompression", "PositionReferenceIndicator", "VolumetricProperties", "RescaleType",
    "FrameOfReferenceUID", "SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID", "PatientPosition",
}  # fmt: skip
KINDS = {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
NESTED = (
    "ReferencedStudySequence", "ReferencedPatientSequence", "OtherPatientIDsSequence", "RequestAttributesSequence",
    "PersonIdentificationCodeSequence", "IssuerOfPatientIDQualifiersSequence", "ResponsibleGroupCodeSequence",
    "OriginalAttributesSequence", "ModifiedAttributesSequence", "ReferencedImageSequence", "SourceImageSequence",
    "PatientPrimaryLanguageCodeSequence", "RequestedProcedureCodeSequence", "OperatorIdentificationSequence",
    "PhysiciansOfRecordIdentificationSequence", "ContentCreatorIdentificationCodeSequence", "DigitalSignaturesSequence",
)  # fmt: skip


def marked_series(folder: Path, affine: Affine) -> list[FileDataset]:
    """An address phantom as a CT series; every attribute of text, time, date or UID that DICOM knows is a marker."""
    slices = write_series(folder, address((7, 5, 6)), affine)
    series, study, frame = (f"2.25.{NUMBER}{NUMBER}{n}" for n in (1, 2, 3))
    for k, dataset in enumerate(slices):
        mark(dataset)
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = series, study, frame
        dataset.SOPInstanceUID = f"2.25.{NUMBER}{NUMBER}9{k}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.SourceApplicationEntityTitle = f"{TEXT}META"
        dataset.preamble = (TEXT * 43)[:128].encode()
        dataset.BurnedInAnnotation = "NO"
        name = folder / f"{TEXT}FILE{k}.dcm"
        dataset.save_as(name, enforce_file_format=True)
        Path(dataset.filename).unlink()
        dataset.filename = str(name)
    return slices


def mark(dataset: Dataset) -> int:
    """Put a marker into every attribute of the dictionary that is no structure; how many there are."""
    planted = 0
    for number, (kind, _vm, _name, _retired, keyword) in DicomDictionary.items():
        vr = kind.split(" or ", maxsplit=1)[0]
        group = number >> 16
        if vr not in KINDS or not keyword or keyword in STRUCTURE or group < 8 or group in (0xFFFC, 0xFFFE):
            continue
        dataset.add_new(Tag(number), vr, _marker(vr, number))
        planted += 1
    for keyword in NESTED:
        item = Dataset()
        item.PatientName, item.PatientID = f"{TEXT}NESTED^{keyword[:20]}", f"{TEXT}{keyword[:20]}"
        setattr(dataset, keyword, Sequence([item]))
    block = dataset.private_block(0x0099, f"{TEXT} PRIVATE", create=True)
    block.add_new(1, "LO", f"{TEXT}PRIVATE")
    block.add_new(2, "UN", f"{TEXT}UNKNOWN".encode())
    dataset.PatientSize, dataset.PatientWeight = f"1.{NUMBER}", f"7.{NUMBER}"
    return planted + len(NESTED) + 4


def _marker(vr: str, number: int) -> str:
    return {
        "DA": "17700717",
        "TM": f"070707.{NUMBER}",
        "DT": f"17700717070707.{NUMBER}",
        "UI": f"2.25.{NUMBER}{number}",
        "AS": "770Y",
        "UR": f"http://{TEXT}{number:08X}",
    }.get(vr, f"{TEXT}{number:08X}")


MARKERS = (TEXT.encode(), NUMBER.encode(), b"17700717", b"770Y")


def found(content: bytes) -> list[str]:
    """Which markers these bytes hold: plain, as UTF-16, in base64, in hexadecimal, or packed by gzip or zlib."""
    seen = set()
    for view, blob in _views(content):
        for width, part in (("", blob), (" in UTF-16", blob.replace(b"\0", b""))):
            seen |= {f"{marker.decode()} {view}{width}" for marker in MARKERS if marker.lower() in part.lower()}
    return sorted(seen)


def _views(content: bytes) -> Iterator[tuple[str, bytes]]:
    yield "plain", content
    yield from _unpacked(content)
    for run in re.findall(rb"[A-Za-z0-9+/_-]{8,}={0,2}", content):
        for start in range(4):
            part = run[start : start + (len(run) - start) // 4 * 4].replace(b"-", b"+").replace(b"_", b"/")
            yield "in base64", base64.b64decode(part + b"=" * (-len(part) % 4))
    for run in re.findall(rb"(?:[0-9a-fA-F]{2}){4,}", content):
        yield "in hexadecimal", bytes.fromhex(run.decode())


def _unpacked(content: bytes) -> Iterator[tuple[str, bytes]]:
    if content.startswith(b"\x1f\x8b"):
        yield "in gzip", gzip.decompress(content)
        yield "in the gzip header", content[:64]
    if content.startswith(b"\x89PNG"):
        at, data = 8, b""
        while at < len(content):
            size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
            body = content[at + 8 : at + 8 + size]
            data += body if kind == b"IDAT" else b""
            if kind == b"zTXt":
                yield "in a text chunk", zlib.decompress(body.partition(b"\0")[2][1:])
            at += 12 + size
        yield "in pixels", zlib.decompress(data)


def marked_nifti_header(header: np.ndarray) -> None:
    """Markers in the text fields of a NIfTI header."""
    for name in ("descrip", "aux_file", "db_name"):
        header[name] = f"{TEXT}{name}".encode()
