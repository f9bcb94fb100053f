"""Our readers as MONAI `ImageReader`s: `LoadImaged(keys, reader=MedxaiReader())` gives our voxels and our affine.

MONAI swallows whatever `read` raises and falls back to its own readers, silently. So `read` only keeps the paths, and
the file is opened, and perhaps refused, in `get_data`, whose errors reach the caller.
"""

from abc import abstractmethod
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from monai.data.image_reader import ImageReader
from numpy.typing import NDArray

from medxai.core.volume import Volume
from medxai.io.dicom import read_dicom
from medxai.io.itk import read_itk
from medxai.io.monai import meta
from medxai.io.nifti import read_nifti
from medxai.io.picture import read_picture
from medxai.io.read import merge, read_volume

Name = str | PathLike[str]


class _Reader(ImageReader):  # type: ignore[misc]
    """Several files become channels, like `load_case`; a single channel comes without a channel axis, as in MONAI."""

    suffixes: tuple[str, ...] = ("",)

    def verify_suffix(self, filename: Sequence[Name] | Name) -> bool:
        return all(path.is_dir() or path.name.lower().endswith(self.suffixes) for path in _paths(filename))

    def read(self, data: Sequence[Name] | Name) -> tuple[Path, ...]:
        return _paths(data)

    def get_data(self, img: tuple[Path, ...]) -> tuple[NDArray[Any], dict[str, Any]]:
        volume = merge([self.volume(path) for path in img], list(img))
        array = volume.data.numpy()
        if len(array) == 1:
            return array[0], meta(volume.geometry.affine, volume, channel=float("nan"))
        return array, meta(volume.geometry.affine, volume, channel=0)

    @abstractmethod
    def volume(self, path: Path) -> Volume:
        """What this reader makes of one path."""


class MedxaiReader(_Reader):
    """Any format that medxai reads."""

    def volume(self, path: Path) -> Volume:
        return read_volume(path)


class NiftiReader(_Reader):
    """NIfTI files."""

    suffixes = (".nii", ".nii.gz")

    def volume(self, path: Path) -> Volume:
        return read_nifti(path)


class DicomReader(_Reader):
    """One DICOM file, or the folder of one series."""

    suffixes = (".dcm", ".dicom", ".ima")

    def volume(self, path: Path) -> Volume:
        return read_dicom(path)


class PictureReader(_Reader):
    """PNG, JPEG and other pictures, (row, column)."""

    suffixes = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

    def volume(self, path: Path) -> Volume:
        return read_picture(path)


class ItkFileReader(_Reader):
    """MHA, MHD and NRRD files."""

    suffixes = (".mha", ".mhd", ".nrrd", ".nhdr")

    def volume(self, path: Path) -> Volume:
        return read_itk(path)


def _paths(names: Sequence[Name] | Name) -> tuple[Path, ...]:
    if isinstance(names, (str, PathLike)):
        return (Path(fspath(names)),)
    return tuple(Path(fspath(name)) for name in names)
