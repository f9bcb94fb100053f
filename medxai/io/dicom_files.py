"""The mark of a DICOM file."""

from medxai.io.dicom.scan import is_dicom

__all__ = ["is_dicom"]
