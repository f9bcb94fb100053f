"""Films: where a projection lies, PS3.3 C.7.6.1 and 10.7."""

import numpy as np

from medxai.core.geometry import Geometry
from medxai.io.codes import notice
from medxai.io.dicom.facts import numbers, pair, plane_axes, plane_shape
from medxai.io.dicom.header import Header
from medxai.io.film import flat_geometry

PROJECTIONS = {"CR", "DX", "MG", "IO", "PX", "RF", "RG", "XA"}
SLICED = {"CT", "MR", "PT", "NM", "OPT", "RTDOSE"}


def is_film(header: Header) -> bool:
    """Whether this header describes a projection (2D) rather than a slice of a body."""
    placed = "ImagePositionPatient" in header.dataset or "ImageOrientationPatient" in header.dataset
    code = str(header.dataset.get("Modality") or "")
    return code in PROJECTIONS or not (placed or code in SLICED)


def film_geometry(header: Header) -> tuple[Geometry, tuple[str, ...]]:
    """The grid (row, column) of a film: where the header places it, else by the convention of `medxai.io.film`.

    Pixel spacing is PixelSpacing, else that of the detector plane, else unknown.
    """
    shape = plane_shape(header)
    spacing, remarks = _film_spacing(header)
    placed = "ImagePositionPatient" in header.dataset and "ImageOrientationPatient" in header.dataset
    if spacing is None or not placed:
        apart = notice("D13", "the film has no place in the patient: its own plane is the frame")
        return flat_geometry(shape, spacing), (*remarks, apart)
    axes, lps = plane_axes(header), np.eye(4)
    lps[:3, 0], lps[:3, 1] = axes[:, 1] * spacing[0], axes[:, 0] * spacing[1]
    lps[:3, 2], lps[:3, 3] = np.cross(axes[:, 0], axes[:, 1]), numbers(header, "ImagePositionPatient", 3)
    return Geometry.from_lps(lps, shape), remarks


def _film_spacing(header: Header) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    at_patient, at_detector = pair(header, "PixelSpacing"), pair(header, "ImagerPixelSpacing")
    spacing = at_patient or at_detector
    if spacing is None:
        return None, (notice("D18", "header states no pixel spacing: lengths in millimetres are unknown"),)
    if spacing != at_detector:
        return spacing, ()
    text = "pixel spacing is that of the detector plane: lengths in the patient are shorter by magnification"
    return spacing, (notice("D18", text),)
