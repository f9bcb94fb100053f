"""The frames of a multi-frame object, each as a header of its own: PS3.3 C.7.6.16 (groups), C.8.8.3 (dose)."""

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from medxai.errors import InputError
from medxai.io.dicom.facts import numbers, plane_axes
from medxai.io.dicom.header import Header

MAX_FRAMES = 20_000


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS = _words("""
PlanePositionSequence PlaneOrientationSequence PixelMeasuresSequence PixelValueTransformationSequence
FrameContentSequence FrameVOILUTSequence MREchoSequence MRDiffusionSequence CTImageFrameTypeSequence
MRImageFrameTypeSequence TemporalPositionSequence SegmentIdentificationSequence CardiacSynchronizationSequence
CTReconstructionSequence UnassignedSharedConvertedAttributesSequence
UnassignedPerFrameConvertedAttributesSequence
""")
_FRAME_FACTS = _words("""
ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SpacingBetweenSlices RescaleSlope
RescaleIntercept RescaleType StackID InStackPositionNumber TemporalPositionIndex EffectiveEchoTime
DiffusionBValue FrameType WindowCenter WindowWidth ReferencedSegmentNumber NominalPercentageOfCardiacPhase
ConvolutionKernel Units
""")


def frames(header: Header) -> tuple[Header, ...]:
    """One header per frame, with the facts that hold for it. Raises `InputError`."""
    count = frame_count(header)
    if not any(group in header.dataset for group in _GROUPS):
        if count == 1:
            return (header,)
        return tuple(_dose(header, count))
    shared, each = (header.dataset.get(group) or () for group in _GROUPS)
    if len(each) != count:
        raise InputError(
            f"{header.path}: NumberOfFrames (0028,0008) and the functional groups disagree.",
            code="D44",
            expected=f"{count} items in PerFrameFunctionalGroupsSequence",
            found=f"{len(each)}",
            remedy="Export the object again.",
        )
    common = Dataset()
    for element in header.dataset:
        if element.keyword not in _GROUPS:
            common.add(element)
    for item in shared:
        _spread(item, common)
    return tuple(_frame(header, common, item, n, count) for n, item in enumerate(each))


def frame_count(header: Header) -> int:
    """NumberOfFrames, 1 where it is not stated; refused where no file holds as many."""
    stated = header.dataset.get("NumberOfFrames")
    count = 1 if stated is None else int(stated)
    if not 0 < count <= MAX_FRAMES:
        raise InputError(
            f"{header.path}: NumberOfFrames (0028,0008) is out of range.",
            code="D08",
            expected=f"1 to {MAX_FRAMES}",
            found=f"{count}",
            remedy="Repair the header.",
        )
    return count


def _frame(header: Header, common: Dataset, item: Dataset, n: int, count: int) -> Header:
    facts = Dataset()
    facts.update(common)
    _spread(item, facts)
    return Header(header.path, facts, header.scan, n, count, header.notices)


def _spread(item: Dataset, facts: Dataset) -> None:
    """Lift the facts of the functional groups in `item` to the top of `facts`."""
    for name in _MACROS:
        for group in (item.get(name) or ())[:1]:
            for keyword in _FRAME_FACTS:
                if keyword in group:
                    facts.add(group[keyword])


def _dose(header: Header, count: int) -> Iterator[Header]:
    """Planes of a dose grid, offset along the normal by GridFrameOffsetVector (relative, or absolute z)."""
    if header.dataset.get("GridFrameOffsetVector") is None:
        raise InputError(
            f"{header.path}: {count} frames without a place of their own.",
            code="D43",
            expected="functional groups (enhanced CT, MR, PET) or GridFrameOffsetVector (RT dose)",
            found=f"a {header.kind or 'multi-frame object'}",
            remedy="Convert it to single-frame DICOM, or to NIfTI, with a tool that knows it.",
        )
    offsets = numbers(header, "GridFrameOffsetVector", count)
    start, axes = numbers(header, "ImagePositionPatient", 3), plane_axes(header)
    normal = np.cross(axes[:, 0], axes[:, 1])
    absolute = offsets[0] != 0
    if absolute and (abs(offsets[0] - start[2]) > 1e-3 or abs(abs(normal[2]) - 1) > 1e-6):
        raise InputError(
            f"{header.path}: GridFrameOffsetVector (3004,000C) starts neither at 0 nor at the position of the grid.",
            code="D45",
            expected=f"0, or {start[2]:g} in a transverse grid",
            found=f"{offsets[0]:g}",
            remedy="Export the dose again.",
        )
    for n, offset in enumerate(offsets):
        facts = Dataset()
        facts.update(header.dataset)
        place = [*start[:2], offset] if absolute else start + offset * normal
        facts.add_new("ImagePositionPatient", "DS", [float(v) for v in place])
        yield Header(header.path, facts, header.scan, n, count, header.notices)
