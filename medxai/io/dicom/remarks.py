"""What to know of the values although nothing was changed: display hints, lossy compression, names in pixels."""

from collections.abc import Sequence

import numpy as np

from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.dicom.header import Header
from medxai.io.dicom.values import rescale

_LOSSY = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 203)}
_OFTEN_BURNED_IN = {"US", "CR", "SC", "OT", "ES", "XC", "DOC"}
BURNED_IN = "the patient's name may be written in the pixels (BurnedInAnnotation {})"


def remarks(found: Sequence[Header], strict_phi: bool) -> tuple[str, ...]:
    """Notices on the slices of one series. Raises `InputError` for a risk that `strict_phi` forbids."""
    return (*_display(found), *_values(found), *_identity(found, strict_phi))


def burned_in(header: Header) -> str | None:
    """YES or absent where the pixels may show who the patient is, else None."""
    stated = str(header.dataset.get("BurnedInAnnotation") or "").upper()
    if stated == "YES":
        return "YES"
    risky = header.dataset.get("Modality") in _OFTEN_BURNED_IN or "Secondary Capture" in header.kind
    return "absent" if risky and stated != "NO" else None


def _display(found: Sequence[Header]) -> list[str]:
    said = []
    if any(header.dataset.get("PresentationLUTShape") == "INVERSE" for header in found):
        said.append(notice("D32", "PresentationLUTShape INVERSE concerns display only: values kept"))
    if any(_odd_window(header) for header in found):
        said.append(notice("D34", "VOI lookup table or unusual window concerns display only: values kept"))
    return said


def _odd_window(header: Header) -> bool:
    if header.dataset.get("VOILUTSequence"):
        return True
    widths = header.dataset.get("WindowWidth")
    if widths is None:
        return False
    try:
        width = np.atleast_1d(np.asarray(widths, np.float64))
    except (TypeError, ValueError):
        return True
    return len(width) != 1 or not width[0] > 0


def _values(found: Sequence[Header]) -> list[str]:
    said = []
    if any(h.dataset.get("LossyImageCompression") == "01" or h.scan.syntax in _LOSSY for h in found):
        said.append(notice("D12", "the image was compressed with loss"))
    if len({rescale(header) for header in found}) > 1:
        said.append(notice("D36", "each slice rescaled by its own slope and intercept"))
    forms = {tuple(header.dataset.get(name) for name in _FORM) for header in found}
    if len(forms) > 1:
        said.append(notice("D38", "slices are stored in different bit depths"))
    if any(header.dataset.get("DoseGridScaling") is not None for header in found):
        said.append(notice("D45", "dose planes scaled by DoseGridScaling"))
    return said


_FORM = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")


def _identity(found: Sequence[Header], strict: bool) -> list[str]:
    for header in found:
        risk = burned_in(header)
        if risk is None:
            continue
        if not strict:
            return [notice("D62", BURNED_IN.format(risk))]
        raise InputError(
            f"{header.path}: the patient's name may be written in the pixels.",
            code="D62",
            expected="BurnedInAnnotation (0028,0301) NO",
            found=risk,
            remedy="Look at the image; if it shows no name, leave strict_phi (--strict-phi) out.",
        )
    return []
