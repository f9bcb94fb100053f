"""From paths to values, whatever the format: the content decides, the name only where the content does not."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medxai.core.annotation import Annotation, SoftMask
from medxai.core.geometry import Geometry
from medxai.core.volume import Case, Mask, Volume
from medxai.errors import GeometryError, InputError, MaskError, refuse_other_kind
from medxai.io.codes import notice
from medxai.io.content import first_bytes
from medxai.io.dicom import read_dicom
from medxai.io.dicom.masks import mask_object, read_dicom_mask
from medxai.io.dicom.reference import Reference, dicom_reference
from medxai.io.dicom.scan import is_dicom
from medxai.io.film import Pair, flat_geometry
from medxai.io.itk import is_itk, read_itk
from medxai.io.labels import region_of, shares_of
from medxai.io.nifti import is_nifti, read_nifti
from medxai.io.options import DEFAULT, ReadOptions
from medxai.io.picture import is_picture, read_picture

Reader = Callable[[Path, ReadOptions], Volume]


def _picture(path: Path, options: ReadOptions) -> Volume:
    return read_picture(path, options=options)


_SUFFIXES: tuple[tuple[Reader, tuple[str, ...]], ...] = (
    (read_nifti, (".nii", ".nii.gz")),
    (read_itk, (".mha", ".mhd", ".nrrd", ".nhdr")),
    (read_dicom, (".dcm", ".dicom", ".ima")),
    (_picture, (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")),
)
_MARKS: tuple[tuple[Reader, Callable[[bytes], bool]], ...] = (
    (read_dicom, is_dicom),
    (_picture, is_picture),
    (read_itk, is_itk),
    (read_nifti, is_nifti),
)
_SAME_MM = 1e-3


def read_volume(path: str | Path, spacing: Pair | None = None, options: ReadOptions = DEFAULT) -> Volume:
    """The image at `path`: NIfTI, DICOM (a file or the folder of a series), MHA, NRRD, PNG, JPEG or other picture.

    `spacing` (row_mm, column_mm) is for pictures and films that state none; `options` says what else is permitted.
    Raises `InputError`.
    """
    path = _path(path)
    refuse_other_kind("spacing", spacing is None or np.shape(spacing) == (2,), "(row_mm, column_mm)", spacing)
    reader, notices = _reader(path)
    volume = reader(path, options)
    if spacing is not None:
        volume = _spaced(path, volume, spacing)
    return Volume(volume.data, volume.geometry, volume.modality, (*notices, *volume.notices))


def read_mask(
    path: str | Path,
    label: int | None = None,
    spacing: Pair | None = None,
    options: ReadOptions = DEFAULT,
    reference: str | Path | None = None,
) -> Mask:
    """The voxels at `path` whose value is `label`; without a label, those of the only value other than 0.

    An empty mask is a mask; `spacing` and `options` are those of `read_volume`. Of a DICOM segmentation or RT structure
    set, `label` is the number of the segment or region, and `reference` the image whose grid it is placed on.

    Raises `MaskError` for values that are no integers, for several values where no label is given, for label 0
    (background) and for more than one channel, and `GeometryError` for a volume that states no place in the patient,
    which `options.unplaced` permits.
    """
    found = read_annotation(path, label, spacing, replace(options, soft=False), reference)
    if not isinstance(found, Mask):
        raise MaskError(f"{path}: a mask is true or false at every voxel.", found="shares", code="M07")
    return found


def read_annotation(
    path: str | Path,
    label: int | None = None,
    spacing: Pair | None = None,
    options: ReadOptions = DEFAULT,
    reference: str | Path | None = None,
) -> Annotation:
    """`read_mask`; with `options.soft` the values themselves, as shares from 0 to 1.

    A share is that of the voxel or of the readers: a DICOM fractional segmentation, or a file of such values, of which
    no `label` can be chosen. Raises what `read_mask` raises, and `MaskError` for values beyond 0 and 1.
    """
    path = _path(path)
    header = mask_object(path, first_bytes(path)) if path.is_file() else None
    if header is not None:
        return read_dicom_mask(header, label, options, _reference(reference, options))
    volume = read_volume(path, spacing, options)
    if volume.data.shape[0] != 1:
        raise MaskError(
            f"{path}: a mask has one channel.",
            found=f"{volume.data.shape[0]} channels",
            remedy="Save the channel that is the mask to its own file.",
            code="P10",
        )
    _refuse_unplaced(path, volume.geometry, options)
    if options.soft:
        return SoftMask(shares_of(path, volume.data[0], label), volume.geometry, volume.notices)
    region, notices = region_of(path, volume.data[0], label)
    return Mask(region, volume.geometry, (*volume.notices, *notices))


def load_case(
    *images: str | Path,
    masks: Mapping[str, Mask] | None = None,
    case_id: str = "case",
    spacing: Pair | None = None,
    options: ReadOptions = DEFAULT,
) -> Case:
    """One examination; several images become channels of one grid, in their order.

    Raises `InputError` where their grids differ by more than 1e-3 mm at a corner, saying by how much, and
    `GeometryError` where one of several volumes states no place in the patient, which `options.unplaced` permits.
    """
    if not images:
        raise InputError("A case needs an image.", expected="at least one path", found="none")
    volumes = [read_volume(image, spacing, options) for image in images]
    for image, volume in zip(images, volumes, strict=True):
        if len(volumes) > 1:
            _refuse_unplaced(image, volume.geometry, options)
    return Case(case_id, merge(volumes, [Path(image) for image in images]), dict(masks or {}))


def merge(volumes: list[Volume], paths: list[Path]) -> Volume:
    """The channels of several volumes on their common grid, which is that of the first; a single one as it is.

    Channels that hold the same voxels, as of a file given twice, are told in a notice.
    """
    first = volumes[0]
    if len(volumes) == 1:
        return first
    for path, other in zip(paths[1:], volumes[1:], strict=True):
        if not other.geometry.same(first.geometry, _SAME_MM):
            raise InputError(
                f"{path}: not on the grid of {paths[0].name}, so they cannot be channels of one image.",
                expected=f"{first.geometry} within {_SAME_MM} mm",
                found=f"{other.geometry}, {_apart(first.geometry, other.geometry)}",
                remedy="Register and resample them to one grid first.",
            )
    data = torch.cat(_alike(volumes, paths))
    modality = "+".join(dict.fromkeys(v.modality for v in volumes if v.modality))
    notices = dict.fromkeys(notice for volume in volumes for notice in volume.notices)
    return Volume(data, first.geometry, modality, (*notices, *_twins(data)))


def _alike(volumes: list[Volume], paths: list[Path]) -> list[Tensor]:
    """The voxels of all volumes in one type, float32 where they differ."""
    if len({volume.data.dtype for volume in volumes}) == 1:
        return [volume.data for volume in volumes]
    for volume, path in zip(volumes, paths, strict=True):
        if not torch.equal(volume.data.to(torch.float32).to(volume.data.dtype), volume.data):
            raise InputError(
                f"{path}: integers this large are not kept beside channels of another type.",
                expected="at most 2^24",
                found=f"up to {int(volume.data.abs().max())}",
                remedy="Save all channels with one type.",
                code="N28",
            )
    return [volume.data.to(torch.float32) for volume in volumes]


def _path(given: str | Path) -> Path:
    refuse_other_kind("path", isinstance(given, str | PathLike), "one path, several as load_case(a, b)", given)
    return Path(given)


def _reference(path: str | Path | None, options: ReadOptions) -> Reference | None:
    """The grid of the image that a DICOM mask belongs to."""
    if path is None:
        return None
    path = Path(path)
    if _reader(path)[0] is read_dicom:
        return dicom_reference(path, options)
    return Reference(read_volume(path, None, options).geometry)


def _refuse_unplaced(path: str | Path, geometry: Geometry, options: ReadOptions) -> None:
    """A picture has no patient to lie in; a volume without one may be a mirror image, or of another scan."""
    if geometry.units == "mm" or geometry.ndim == 2 or geometry.shape3[2] == 1 or options.unplaced:
        return
    raise GeometryError(
        f"{path}: the file states no place in the patient, so it can be laid on no other image or mask.",
        expected="a header that places it (NIfTI: a sform or qform with its code set)",
        found=f"{geometry}",
        remedy="Repair the header; or, where the files are known to be voxel by voxel alike, permit it with "
        "unplaced=True (--unplaced).",
        code="N03",
    )


def _twins(data: Tensor) -> tuple[str, ...]:
    bits = data.view(torch.uint8)
    return tuple(
        f"channels {n + 1} and {m + 1} hold the same voxels"
        for n, m in combinations(range(len(bits)), 2)
        if torch.equal(bits[n], bits[m])
    )


def _apart(first: Geometry, other: Geometry) -> str:
    if first.shape3 != other.shape3:
        return "of another size"
    if first.units != other.units:
        return "in other units of length"
    return f"{first.distance(other):.4g} mm apart at a corner"


def _reader(path: Path) -> tuple[Reader, tuple[str, ...]]:
    if path.is_dir():
        return read_dicom, ()
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.", remedy="Check the path.")
    start = first_bytes(path)
    by_content = next((reader for reader, knows in _MARKS if knows(start)), None)
    by_name = next((reader for reader, ends in _SUFFIXES if path.name.lower().endswith(ends)), None)
    if by_content is None and by_name is None:
        raise InputError(
            f"{path}: neither content nor name is of a known format.",
            expected="NIfTI, DICOM, MHA, NRRD, PNG, JPEG, BMP or TIFF",
            remedy="Convert it to NIfTI.",
            code="N22",
        )
    if by_content and by_name and by_content is not by_name:
        return by_content, (notice("P09", "the name suggests another format than the content: content followed"),)
    return by_content or by_name or read_nifti, ()


def _spaced(path: Path, volume: Volume, spacing: Pair) -> Volume:
    if volume.geometry.units == "mm":
        raise InputError(
            f"{path}: spacing was given for an image that has its own.",
            found=f"{volume.geometry}",
            remedy="Leave spacing out; if the header is wrong, repair the header.",
        )
    if volume.geometry.ndim != len(spacing):
        raise InputError(
            f"{path}: spacing is for pictures and films, and this is a volume whose header places it nowhere.",
            expected="an image of two axes",
            found=f"{volume.geometry}",
            remedy="Leave spacing out and stay in voxels, or repair the header (NIfTI: an sform with its code set).",
        )
    geometry = flat_geometry(volume.geometry.shape, spacing)
    return Volume(
        volume.data, geometry, volume.modality, (*volume.notices, notice("P11", "pixel spacing given by the user"))
    )
