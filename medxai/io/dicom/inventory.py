"""What a path holds, told from headers alone: every series, whether it would be read, and whom its files may name."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medxai.errors import InputError, MedxaiError
from medxai.io.codes import codes
from medxai.io.dicom.films import film_geometry, is_film
from medxai.io.dicom.folder import files_below, is_directory, is_image, modality
from medxai.io.dicom.frames import frame_count
from medxai.io.dicom.header import Header, header_of, more_of
from medxai.io.dicom.pixels import check
from medxai.io.dicom.read import ordered
from medxai.io.dicom.remarks import burned_in, remarks
from medxai.io.dicom.segmentation import is_segmentation
from medxai.io.dicom.structures import is_structure_set
from medxai.io.options import DEFAULT, ReadOptions

_IDENTIFYING = (
    "PatientName PatientID PatientBirthDate PatientBirthTime OtherPatientIDs OtherPatientNames PatientAddress",
    "PatientTelephoneNumbers AccessionNumber ReferringPhysicianName PerformingPhysicianName OperatorsName",
    "InstitutionName InstitutionAddress StudyDate SeriesDate AcquisitionDate ContentDate StudyID DeviceSerialNumber",
)
_FACES = {"HEAD", "BRAIN", "FACE", "NECK", "HEADNECK", "SKULL", "ORBIT", "SINUS", "WHOLEBODY"}
_WIDEST = 60


@dataclass(frozen=True)
class Series:
    """One series: `problems` are why it would be refused, `notices` the codes that reading would tell."""

    key: str
    modality: str
    kind: str
    description: str
    files: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    problems: tuple[str, ...]
    notices: tuple[str, ...]
    identity: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """Series, files that are no DICOM, and files that are DICOM but broken."""

    series: tuple[Series, ...]
    others: int
    broken: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def inspect(path: str | Path, options: ReadOptions = DEFAULT) -> Inventory:
    """What lies at or below `path`; a broken file is listed, not raised. Raises `InputError` for no such path."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.", remedy="Check the path.")
    files = files_below(path)[0] if path.is_dir() else [path]
    groups: dict[tuple[str, str], list[Header]] = {}
    broken, others = [], 0
    for file in files:
        try:
            header = None if file.name.startswith(".") else header_of(file)
        except MedxaiError as error:
            broken.append(plain(str(error).replace(str(file), file.name), 300))
            continue
        if header is None or is_directory(header):
            others += header is None
            continue
        uid = str(header.dataset.get("SeriesInstanceUID") or "")
        groups.setdefault((uid, "image" if is_image(header) else header.kind), []).append(header)
    return Inventory(tuple(_series(path, group, options) for group in groups.values()), others, tuple(broken))


def plain(text: object, widest: int = _WIDEST) -> str:
    """Free text of a header with nothing in it that a terminal or a page would obey."""
    kept = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return kept if len(kept) <= widest else f"{kept[: widest - 3]}..."


def _series(path: Path, found: Sequence[Header], options: ReadOptions) -> Series:
    first = found[0]
    kind, problems = first.kind.removesuffix(" Storage"), list[str]()
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] | None = None
    told: tuple[str, ...] = ()
    if is_image(first):
        kind = "film" if is_film(first) else "slices"
        try:
            shape, spacing, told = _read(found, options)
        except MedxaiError as error:
            problems.append(plain(str(error).replace(str(path), path.name), 400))
    elif is_segmentation(first) or is_structure_set(first):
        kind = f"{kind}: {_parts(first)}"
    description = plain(first.dataset.get("SeriesDescription") or "")
    said = (text for header in found for text in header.notices)
    return Series(
        first.series,
        modality(first),
        plain(kind, 200),
        description,
        len(found),
        shape,
        spacing,
        tuple(problems),
        tuple(dict.fromkeys((*codes(said), *codes(told)))),
        _identity(found),
    )


def _read(
    found: Sequence[Header], options: ReadOptions
) -> tuple[tuple[int, ...], tuple[float, ...] | None, tuple[str, ...]]:
    """Shape, spacing and notices of the volume that the files would make."""
    if is_film(found[0]):
        if len(found) > 1 or frame_count(found[0]) > 1:
            code, what = ("D24", "films") if len(found) > 1 else ("D43", "frames without a place in the patient")
            raise InputError(f"{max(len(found), frame_count(found[0]))} {what}, read one by one.", code=code)
        grid, told = film_geometry(found[0])
        told = (*told, *check(found[0])[1])
    else:
        stack, told = ordered(found, options, None)
        grid, told = stack.geometry, (*told, *stack.notices)
    spacing = grid.spacing if grid.units == "mm" else None
    return grid.shape, spacing, (*told, *remarks(found, options.strict_phi))


def _parts(header: Header) -> str:
    """Number and name of each segment or region."""
    facts = more_of(header, ["SegmentSequence", "StructureSetROISequence"])
    names = [(item.get("SegmentNumber"), item.get("SegmentLabel")) for item in facts.get("SegmentSequence") or ()]
    names += [(item.get("ROINumber"), item.get("ROIName")) for item in facts.get("StructureSetROISequence") or ()]
    return ", ".join(f"{number} {plain(name or '', 24)}" for number, name in names)


def _identity(found: Sequence[Header]) -> tuple[str, ...]:
    """What in header and pixels may say who the patient is."""
    words = [word for line in _IDENTIFYING for word in line.split()]
    facts = more_of(found[0], [*words, "BodyPartExamined", "RecognizableVisualFeatures"])
    filled = sum(bool(str(facts.get(word) or "").strip()) for word in words)
    said = [f"{filled} identifying elements"] if filled else []
    risks = dict.fromkeys(risk for header in found if (risk := burned_in(header)))
    said += [f"burned-in text: {risk.lower()}" if risk == "YES" else "burned-in text: not excluded" for risk in risks]
    part = str(facts.get("BodyPartExamined") or "").upper().replace(" ", "")
    if part in _FACES and facts.get("RecognizableVisualFeatures") != "NO" and not is_film(found[0]):
        said.append("face")
    return tuple(said)
