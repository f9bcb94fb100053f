"""DICOM files to volumes and masks; every file is walked and measured before it is believed."""

from medxai.io.dicom.read import read_dicom

__all__ = ["read_dicom"]
