"""Which files of a folder are images, and whether they are the images of one series."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID

from medxai.errors import InputError

_BY_NAME = {".dcm", ".dicom", ".ima"}
_COUNTS = ("Rows", "Columns", "NumberOfFrames")
UNREADABLE = (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, eq=False)
class Header:
    """What one file says, its pixels not yet read."""

    path: Path
    dataset: Dataset


def headers(path: Path) -> tuple[tuple[Header, ...], tuple[str, ...]]:
    """The image headers at `path` (a file or a folder), all of one series, and what was passed over."""
    if not path.is_dir():
        return (_only(path),), ()
    files = sorted(p for p in path.iterdir() if p.is_file())
    read = [header for file in files if (header := _image(file))]
    if not read:
        raise InputError(
            f"{path}: the folder holds no DICOM image.",
            found=f"{len(files)} other files" if files else "no files",
            remedy="Give the folder that holds the files themselves; folders inside it are not searched.",
        )
    _refuse_several(path, read)
    skipped = len(files) - len(read)
    return tuple(read), (f"{skipped} files without image skipped",) if skipped else ()


def is_dicom(start: bytes) -> bool:
    """Whether these first bytes carry the mark of a DICOM file."""
    return start[128:132] == b"DICM"


def _only(path: Path) -> Header:
    header = _parsed(path)
    if header is None or "Rows" not in header.dataset:
        raise InputError(
            f"{path}: not a DICOM image.",
            expected="a DICOM file with rows and columns",
            found="no DICM mark" if header is None else "a DICOM object without pixels",
            remedy="Give the image file itself.",
        )
    _refuse_kind(header)
    return header


def _image(path: Path) -> Header | None:
    if path.name.startswith("."):
        return None
    header = _parsed(path)
    if header is None:
        if path.suffix.lower() in _BY_NAME:
            raise InputError(
                f"{path}: named like a DICOM file, but it is none.",
                expected="the mark DICM at byte 128",
                remedy="Restore the file, or remove it from the folder if it is no part of the series.",
            )
        return None
    if "Rows" not in header.dataset:
        _refuse_headless(header)
        return None
    _refuse_kind(header)
    return header


def _refuse_headless(header: Header) -> None:
    kind = header.dataset.file_meta.get("MediaStorageSOPClassUID") or header.dataset.get("SOPClassUID")
    name = "" if kind is None else UID(kind).name
    if not name or "Image Storage" in name:
        raise InputError(
            f"{header.path}: the header ends before it describes its image.",
            expected="rows and columns" if name else "the class of the object",
            found=f"a {name} without rows" if name else "none",
            remedy="Restore the file, or remove it from the folder if it is no part of the series.",
        )


def _parsed(path: Path) -> Header | None:
    try:
        dataset = dcmread(path, stop_before_pixels=True)
        _ = [int(dataset.get(name) or 0) for name in _COUNTS], dataset.get("SeriesInstanceUID")
    except InvalidDicomError:
        return None
    except (*UNREADABLE, BytesLengthException, OverflowError) as error:
        raise InputError(
            f"{path}: the DICOM header cannot be read.", found=_cause(error), remedy="Restore the file."
        ) from error
    return Header(path, dataset)


def _cause(error: BaseException) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__


def _refuse_kind(header: Header) -> None:
    dataset, problem = header.dataset, ""
    if int(dataset.get("NumberOfFrames") or 1) > 1 or "SharedFunctionalGroupsSequence" in dataset:
        problem = f"a multi-frame object of {dataset.get('NumberOfFrames', 1)} frames"
    elif dataset.get("SamplesPerPixel", 1) != 1 or dataset.get("PhotometricInterpretation") not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        problem = f"pixels of kind {dataset.get('PhotometricInterpretation')}"
    elif min(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)) < 1:
        problem = f"{dataset.get('Rows')} rows and {dataset.get('Columns')} columns"
    if problem:
        raise InputError(
            f"{header.path}: this kind of DICOM image is not read.",
            expected="one gray frame per file",
            found=problem,
            remedy="Convert it to single-frame DICOM or to NIfTI with a tool that knows it.",
        )


def _refuse_several(folder: Path, read: Sequence[Header]) -> None:
    series: dict[str, list[Header]] = {}
    for header in read:
        series.setdefault(str(header.dataset.get("SeriesInstanceUID", "")), []).append(header)
    if len(series) > 1:
        listed = "; ".join(
            f"{len(group)} of modality {group[0].dataset.get('Modality', 'unknown')} from {group[0].path.name} on"
            for group in series.values()
        )
        raise InputError(
            f"{folder}: the folder holds {len(series)} series.",
            expected="the files of one series",
            found=listed,
            remedy="Put each series into its own folder, or give the path of one file.",
        )
