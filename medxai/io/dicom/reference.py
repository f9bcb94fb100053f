"""The grid that a segmentation or structure set is read on: that of the image it belongs to."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medxai.core.geometry import Geometry
from medxai.errors import MaskError
from medxai.io.codes import notice
from medxai.io.dicom.codec import Codec
from medxai.io.dicom.films import film_geometry, is_film
from medxai.io.dicom.folder import images
from medxai.io.dicom.header import Header
from medxai.io.dicom.read import ordered
from medxai.io.options import ReadOptions


@dataclass(frozen=True)
class Reference:
    """The grid of an image, its FrameOfReferenceUID (empty where it states none) and the UIDs of its slices."""

    geometry: Geometry
    frame: str = ""
    slices: frozenset[str] = frozenset()


def dicom_reference(path: Path, options: ReadOptions) -> Reference:
    """The grid of the DICOM image at `path`, its pixels not read. Raises `InputError`."""
    found, _ = images(path, options.series)
    frame = str(found[0].dataset.get("FrameOfReferenceUID") or "")
    slices = frozenset(str(header.dataset.get("SOPInstanceUID")) for header in found)
    if is_film(found[0]):
        return Reference(film_geometry(found[0])[0], frame, slices)
    with Codec(options.max_bytes) as codec:
        return Reference(ordered(found, options, codec)[0].geometry, frame, slices)


def same_frame(header: Header, stated: str, drawn_on: Iterable[str], reference: Reference) -> tuple[str, ...]:
    """What to notice where it is unknown whether mask and image share a frame of reference.

    `drawn_on` are the SOPInstanceUIDs of the images that the mask says it was drawn on; where these are the slices of
    the image, another frame of reference is only told. Raises `MaskError` where it is neither frame nor slices.
    """
    if stated and reference.frame:
        named = set(drawn_on)
        if stated == reference.frame:
            return ()
        if named and named <= reference.slices:
            return (
                notice("D47", "another frame of reference, but drawn on slices of this image: taken to be its own"),
            )
        raise MaskError(
            f"{header.path}: the mask lies in another frame of reference than the image.",
            code="D47",
            expected="the FrameOfReferenceUID (0020,0052) of the image",
            found="another",
            remedy="Give the image that the mask was drawn on, or register the two first.",
        )
    which = "mask" if not stated else "image"
    return (notice("D47", f"the {which} states no FrameOfReferenceUID: taken to be that of the other"),)
