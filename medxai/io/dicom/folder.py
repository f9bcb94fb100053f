"""Which files below a path are images, and which of them are the one series to read."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.dicom.header import Header, header_of
from medxai.io.source import unreadable

MAX_FILES = 100_000
MAX_FOLDERS_DEEP = 16
_BY_NAME = {".dcm", ".dicom", ".ima"}
_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True, eq=False)
class Contents:
    """What lies below a path: images, DICOM objects without image, and how many other files."""

    images: tuple[Header, ...]
    objects: tuple[Header, ...]
    others: int
    notices: tuple[str, ...]


def contents(path: Path) -> Contents:
    """Every DICOM file at or below `path`, or that a DICOMDIR at `path` lists. Raises `InputError`."""
    if path.is_dir():
        files, remarks = files_below(path)
        return _sorted_out(files, remarks)
    header = header_of(path)
    if header is None:
        raise InputError(
            f"{path}: not a DICOM image.",
            code="D51",
            expected="a DICOM file with rows and columns",
            found="no DICM mark",
            remedy="Give the image file itself.",
        )
    if is_directory(header):
        return _sorted_out(_listed(header), [])
    images, objects = ((header,), ()) if is_image(header) else ((), (header,))
    return Contents(images, objects, 0, ())


def images(path: Path, series: str | None) -> tuple[tuple[Header, ...], tuple[str, ...]]:
    """The images of the one series at `path`, and what was passed over. Raises `InputError`."""
    found = contents(path)
    if not found.images:
        raise _no_image(path, found)
    chosen = _one_series(path, found.images, series)
    remarks = list(found.notices)
    if found.others:
        remarks.append(notice("D51", f"{found.others} files without image skipped"))
    if found.objects:
        kinds = sorted({header.kind.removesuffix(" Storage") for header in found.objects})
        remarks.append(
            notice("D49", f"{len(found.objects)} DICOM objects that are no image skipped: {', '.join(kinds)}")
        )
    for text in dict.fromkeys(said for header in chosen for said in header.notices):
        remarks.append(text)
    return chosen, tuple(remarks)


def is_image(header: Header) -> bool:
    """Whether it holds an image of the patient, rather than a segmentation, a report or a plan."""
    return "Rows" in header.dataset and "Segmentation" not in header.kind


def is_directory(header: Header) -> bool:
    """Whether it is a DICOMDIR."""
    return "DirectoryRecordSequence" in header.dataset or header.dataset.get("SOPClassUID") == _DIRECTORY


def files_below(root: Path) -> tuple[list[Path], list[str]]:
    """All files in and below a folder, in the order of their names, and what was not followed. Raises `InputError`."""
    files: list[Path] = []
    links = 0
    for folder, inner, names in os.walk(root, onerror=_refuse_folder):
        here = Path(folder)
        links += sum((here / name).is_symlink() for name in inner)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and not (here / name).is_symlink())
        if len(here.relative_to(root).parts) >= MAX_FOLDERS_DEEP and inner:
            raise _too_much(root, f"folders nested deeper than {MAX_FOLDERS_DEEP}")
        files += [here / name for name in sorted(names)]
        if len(files) > MAX_FILES:
            raise _too_much(root, f"more than {MAX_FILES} files")
    return files, [notice("D63", f"{links} linked folders not followed")] if links else []


def _refuse_folder(error: OSError) -> None:
    raise unreadable(Path(str(error.filename)), error) from error


def _too_much(root: Path, found: str) -> InputError:
    return InputError(
        f"{root}: this is more than one examination.",
        code="D63",
        expected=f"at most {MAX_FILES} files, {MAX_FOLDERS_DEEP} folders deep",
        found=found,
        remedy="Give the folder of one examination.",
    )


def _listed(directory: Header) -> list[Path]:
    """The files that a DICOMDIR lists, all below its own folder."""
    root = directory.path.resolve().parent
    files = []
    for parts in _file_ids(directory):
        path = root.joinpath(*parts)
        if any(
            part in {"", ".", ".."} or "/" in part or "\\" in part for part in parts
        ) or not path.resolve().is_relative_to(root):
            raise InputError(
                f"{directory.path}: the DICOMDIR names a file outside its folder.",
                code="D50",
                expected="files below the folder of the DICOMDIR",
                found="a path that leaves it",
                remedy="Give the folder of the images instead.",
            )
        files.append(path)
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise InputError(
            f"{directory.path}: the DICOMDIR lists {len(missing)} files that are not there.",
            code="D50",
            expected=f"{len(files)} files",
            found=f"no {missing[0]}",
            remedy="Copy the whole medium, or give the folder of the images instead.",
        )
    return files


def _file_ids(directory: Header) -> Iterator[list[str]]:
    for record in directory.dataset.get("DirectoryRecordSequence") or ():
        name = record.get("ReferencedFileID")
        if name and record.get("DirectoryRecordType") == "IMAGE":
            yield [name] if isinstance(name, str) else [str(part) for part in name]


def _sorted_out(files: Sequence[Path], remarks: list[str]) -> Contents:
    found, objects, others = [], [], 0
    for file in files:
        header = None if file.name.startswith(".") else _header(file)
        if header is None:
            others += 1
        elif is_image(header):
            found.append(header)
        elif not is_directory(header):
            _refuse_headless(header)
            objects.append(header)
    return Contents(tuple(found), tuple(objects), others, tuple(remarks))


def _header(file: Path) -> Header | None:
    if not file.is_file() and file.exists():
        return None
    header = header_of(file)
    if header is None and file.suffix.lower() in _BY_NAME:
        raise InputError(
            f"{file}: named like a DICOM file, but it is none.",
            code="D52",
            expected="the mark DICM at byte 128",
            remedy="Restore the file, or remove it from the folder if it is no part of the series.",
        )
    return header


def _refuse_headless(header: Header) -> None:
    if "Rows" not in header.dataset and (not header.kind or "Image Storage" in header.kind):
        raise InputError(
            f"{header.path}: the header ends before it describes its image.",
            code="D03",
            expected="rows and columns" if header.kind else "the class of the object (SOPClassUID)",
            found=f"a {header.kind} without rows" if header.kind else "none",
            remedy="Restore the file, or remove it from the folder if it is no part of the series.",
        )


def _no_image(path: Path, found: Contents) -> InputError:
    if found.objects:
        kinds = sorted({header.kind or "object of unknown class" for header in found.objects})
        remedy = "Give the image; a segmentation or structure set is read as a mask (--mask)."
        held = f"a DICOM object without pixels of the patient: {', '.join(kinds)}"
        return InputError(f"{path}: not a DICOM image.", code="D49", expected="an image", found=held, remedy=remedy)
    return InputError(
        f"{path}: the folder holds no DICOM image.",
        code="D51",
        found=f"{found.others} other files" if found.others else "no files",
        remedy="Give the folder of the series.",
    )


def _one_series(path: Path, read: Sequence[Header], wanted: str | None) -> tuple[Header, ...]:
    series: dict[str, list[Header]] = {}
    for header in read:
        series.setdefault(str(header.dataset.get("SeriesInstanceUID") or ""), []).append(header)
    if wanted is not None:
        chosen = [uid for uid, group in series.items() if wanted in {uid, group[0].series}]
        if len(chosen) == 1:
            return tuple(series[chosen[0]])
    elif len(series) == 1:
        return tuple(read)
    listed = "; ".join(
        f"{group[0].series}: {len(group)} files of modality {modality(group[0])} from {group[0].path.name} on"
        for group in list(series.values())[:20]
    )
    raise InputError(
        f"{path}: the folder holds {len(series)} series{', none of them the wanted one' if wanted else ''}.",
        code="D24",
        expected="the files of one series (SeriesInstanceUID)",
        found=listed,
        remedy="Name one with series= (--series) by its UID or the eight digits before the colon; "
        "`medxai inspect` describes them.",
    )


def modality(header: Header) -> str:
    """Modality (0008,0060) where it is the code that the standard wants, else nothing."""
    code = str(header.dataset.get("Modality") or "")
    return code if code.isascii() and code.isalnum() and len(code) <= 16 else ""
