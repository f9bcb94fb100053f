"""DICOM objects that are masks: segmentations and structure sets."""

from pathlib import Path

from medxai.core.annotation import Annotation, SoftMask
from medxai.io.dicom.header import Header, header_of
from medxai.io.dicom.reference import Reference
from medxai.io.dicom.scan import is_dicom
from medxai.io.dicom.segmentation import is_segmentation, read_segmentation
from medxai.io.dicom.structures import is_structure_set, read_structure
from medxai.io.options import ReadOptions


def mask_object(path: Path, start: bytes) -> Header | None:
    """The header of the segmentation or structure set at `path`; None for anything else."""
    if not is_dicom(start):
        return None
    header = header_of(path)
    return header if header is not None and (is_segmentation(header) or is_structure_set(header)) else None


def read_dicom_mask(header: Header, label: int | None, options: ReadOptions, reference: Reference | None) -> Annotation:
    """One segment or region, with `options.soft` as shares. Raises `MaskError`, `InputError`."""
    if is_segmentation(header):
        return read_segmentation(header, label, options, reference)
    region = read_structure(header, label, reference)
    return SoftMask(region.data.float(), region.geometry, region.notices) if options.soft else region
