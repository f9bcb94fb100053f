"""How slices make a volume: PS3.3 C.7.6.2.1.1, with every fact that it needs checked first.

    LPS(i, j) = ImagePositionPatient + i * PixelSpacing[1] * row_cosines + j * PixelSpacing[0] * column_cosines

and slice k of a series lies at the position of slice 0 plus k equal steps. The step need not be parallel to the
normal: a tilted gantry gives a sheared grid, which the affine states exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medxai.core.geometry import Geometry
from medxai.errors import InputError
from medxai.io.codes import notice
from medxai.io.content import blaming
from medxai.io.dicom.facts import agree, numbers, plane_axes, plane_shape, plane_spacing, rounded
from medxai.io.dicom.header import DISTINGUISHING, Header
from medxai.io.options import ReadOptions

Array = NDArray[Any]
Same = Callable[[Header, Header], bool]

_SAME_PLANE_MM = 1e-3
_UNEVEN = 0.01
_NOTED_MM = 1e-3
_NOTED_TILT = 1e-3
_TELLING = (*DISTINGUISHING, "StackID", "TemporalPositionIndex", "EffectiveEchoTime", "FrameType")
_PRIVATE = {"ContentTime", "AcquisitionTime"}


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of a volume in their order along the normal; None stands for a missing one.

    `places` are the (fractional) slices to interpolate at, where steps had to be made even.
    """

    slices: tuple[Header | None, ...]
    geometry: Geometry
    notices: tuple[str, ...]
    places: Array | None = None


@dataclass(frozen=True, eq=False)
class _Line:
    """Distinct slices in their order, with their positions and their heights along the normal."""

    slices: tuple[Header, ...]
    positions: Array
    heights: Array

    @property
    def usual(self) -> float:
        return float(np.median(np.diff(self.heights)))

    @property
    def direction(self) -> Array:
        """Movement (mm) per millimetre of height."""
        return np.asarray((self.positions[-1] - self.positions[0]) / (self.heights[-1] - self.heights[0]))

    def off(self, heights: Array) -> float:
        """The farthest that a slice lies from the straight line at these heights."""
        line = self.positions[0] + (heights - heights[0])[:, None] * self.direction
        return float(np.linalg.norm(self.positions - line, axis=1).max())


def stack(found: Sequence[Header], options: ReadOptions, same: Same | None) -> Stack:
    """The slices sorted by position, and their grid (column, row, slice); `same` compares the pixels of two slices.

    The slices passed `refuse_strangers`. Raises `InputError` where they do not form one stack of even steps, unless
    `options` permit a repair.
    """
    _refuse_unplaced(found)
    agree(found)
    first = found[0]
    axes, (rows_mm, columns_mm) = plane_axes(first), plane_spacing(first)
    normal = np.cross(axes[:, 0], axes[:, 1])
    line, remarks = _distinct(found, normal, same)
    remarks += [notice("D16", "orientation made exactly orthonormal")] if rounded(first) else []
    if len(line.slices) > 1:
        slices, step, places, more = _steps(line, options)
        remarks += [*more, *_tilt(step, normal)]
    else:
        slices, step, places = line.slices, _depth(first, normal), None
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = axes[:, 0] * columns_mm, axes[:, 1] * rows_mm, step
    lps[:3, 3] = line.positions[0]
    rows, columns = plane_shape(first)
    count = len(slices) if places is None else len(places)
    with blaming(first.path, "D18"):
        return Stack(slices, Geometry.from_lps(lps, (columns, rows, count)), tuple(remarks), places)


def _refuse_unplaced(found: Sequence[Header]) -> None:
    if not any(header.dataset.get("ImagePositionPatient") for header in found):
        raise InputError(
            f"{found[0].name}: ImagePositionPatient is missing or unusable, so the image has no place in the patient.",
            code="D13",
            expected="ImagePositionPatient (0020,0032) in every slice",
            found=f"none in any of {len(found)}",
            remedy="Export the series again with its geometry.",
        )
    stacks = {str(header.dataset.get("StackID")) for header in found}
    if len(stacks) > 1:
        raise InputError(
            f"{found[0].path}: the object holds {len(stacks)} stacks.",
            code="D44",
            expected="frames of one StackID (0020,9056)",
            found=f"{len(found)} frames of {len(stacks)} stacks",
            remedy="Split the object into one series per stack.",
        )


def _distinct(found: Sequence[Header], normal: Array, same: Same | None) -> tuple[_Line, list[str]]:
    positions = np.array([numbers(header, "ImagePositionPatient", 3) for header in found])
    heights = positions @ normal
    kept: list[int] = []
    dropped = 0
    for n in np.argsort(heights, kind="stable"):
        if not kept or heights[n] - heights[kept[-1]] >= _SAME_PLANE_MM:
            kept.append(int(n))
            continue
        last = kept[-1]
        if (
            np.linalg.norm(positions[n] - positions[last]) >= _SAME_PLANE_MM
            or same is None
            or not same(found[last], found[n])
        ):
            raise _same_plane(found[last], found[n], heights[last], same is None)
        dropped += 1
    remarks = [notice("D22", f"{dropped} duplicate slices dropped: same position, same pixels")] if dropped else []
    return _Line(tuple(found[n] for n in kept), positions[kept], heights[kept]), remarks


def _same_plane(one: Header, other: Header, height: float, unseen: bool) -> InputError:
    telling = [
        word if word in _PRIVATE else f"{word} {one.dataset.get(word)} and {other.dataset.get(word)}"
        for word in _TELLING
        if one.dataset.get(word) != other.dataset.get(word)
    ]
    pixels = (
        f"{'pixels not compared' if unseen else 'different pixels'}; they differ in {'; '.join(telling) or 'no tag'}"
    )
    beside = one.name if other.frames > 1 or other.path.name == one.path.name else one.path.name
    return InputError(
        f"{other.name}: lies in the same plane as {beside}.",
        code="D44" if other.frames > 1 else "D23",
        expected="one slice per position",
        found=f"two at {height:.3f} mm along the normal, {pixels}",
        remedy="Keep one of them; time points, echoes, b-values and reconstructions belong in their own folders.",
    )


def _steps(line: _Line, options: ReadOptions) -> tuple[tuple[Header | None, ...], Array, Array | None, list[str]]:
    """Slices, step, places to interpolate at, remarks."""
    count = len(line.slices)
    even = np.linspace(line.heights[0], line.heights[-1], count)
    step = (line.positions[-1] - line.positions[0]) / (count - 1)
    off = line.off(even)
    if off <= _UNEVEN * line.usual:
        told = [notice("D21", f"slice positions deviate from equal steps by up to {off:.4f} mm")]
        return line.slices, step, None, told if off > _NOTED_MM else []
    if line.off(line.heights) > _UNEVEN * line.usual:
        raise _uneven(line, f"positions up to {line.off(line.heights):.4g} mm off a straight line")
    lattice = _lattice(line)
    if lattice is not None:
        return _filled(line, lattice, options)
    if not options.resample_irregular:
        raise _uneven(line, "steps that are no multiples of one", "resample_irregular (--resample-irregular)")
    span = line.heights[-1] - line.heights[0]
    made = max(2, round(span / line.usual) + 1)
    targets = np.linspace(line.heights[0], line.heights[-1], made)
    places = np.interp(targets, line.heights, np.arange(count))
    where = ", ".join(f"{height - line.heights[0]:.2f}" for height in line.heights)
    text = f"uneven slices at {where} mm interpolated linearly to {made} even steps of {span / (made - 1):.4f} mm"
    return line.slices, line.direction * span / (made - 1), places, [notice("D21", text)]


def _lattice(line: _Line) -> NDArray[np.int64] | None:
    """For each slice its number, were none missing; None where the steps are no multiples of the smallest."""
    gaps = np.diff(line.heights)
    base = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    rise = line.heights - line.heights[0]
    numbers_ = np.rint(rise / base).astype(np.int64)
    base = float(rise @ numbers_ / (numbers_ @ numbers_))
    return numbers_ if np.abs(rise - numbers_ * base).max() <= _UNEVEN * base else None


def _filled(
    line: _Line, lattice: NDArray[np.int64], options: ReadOptions
) -> tuple[tuple[Header | None, ...], Array, Array | None, list[str]]:
    total = int(lattice[-1]) + 1
    missing = np.setdiff1d(np.arange(total), lattice) if total <= options.max_bytes // 4 else np.array([0])
    step = (line.positions[-1] - line.positions[0]) / (total - 1)
    holes = [n for n in range(len(lattice) - 1) if lattice[n + 1] - lattice[n] > 1]
    if not options.allow_gaps or total > options.max_bytes // 4:
        first, gaps = holes[0], np.diff(line.heights)
        listed = ", ".join(f"{line.heights[n]:.2f} to {line.heights[n + 1]:.2f}" for n in holes[:8])
        raise InputError(
            f"{line.slices[first].path.parent}: the slices are not evenly spaced; {total - len(lattice)} are missing.",
            code="D20",
            expected=f"equal steps of {np.linalg.norm(step):.4g} mm",
            found=f"steps from {gaps.min():.4g} to {gaps.max():.4g} mm; gaps at heights {listed} mm, the first between "
            f"{line.slices[first].path.name} and {line.slices[first + 1].path.name}",
            remedy="Restore the missing slices, or permit NaN in their place with allow_gaps (--allow-gaps), "
            "or resample the series to even spacing first.",
        )
    slices: list[Header | None] = [None] * total
    for n, header in zip(lattice, line.slices, strict=True):
        slices[int(n)] = header
    which = ", ".join(str(n) for n in missing)
    return tuple(slices), step, None, [notice("D20", f"{len(missing)} missing slices filled with NaN: number {which}")]


def _uneven(line: _Line, found: str, flag: str = "") -> InputError:
    gaps = np.diff(line.heights)
    odd = int(np.abs(gaps - line.usual).argmax())
    permitted = f", or permit interpolation with {flag}" if flag else ""
    return InputError(
        f"{line.slices[odd].path.parent}: the slices are not evenly spaced.",
        code="D21",
        expected=f"equal steps (the median is {line.usual:.4g} mm, the others within {_UNEVEN:.0%})",
        found=f"{found}: steps from {gaps.min():.4g} to {gaps.max():.4g} mm; the step from "
        f"{line.slices[odd].path.name} to {line.slices[odd + 1].path.name} is {gaps[odd]:.4g} mm",
        remedy=f"Restore what is missing, or resample the series to even spacing first{permitted}.",
    )


def _tilt(step: Array, normal: Array) -> list[str]:
    tilt = float(np.linalg.norm(np.cross(step, normal)) / np.linalg.norm(step))
    angle = np.degrees(np.arcsin(min(tilt, 1.0)))
    text = f"slices are sheared by {angle:.2f} degrees (tilted gantry): kept exactly in the affine"
    return [notice("D27", text)] if tilt > _NOTED_TILT else []


def _depth(header: Header, normal: Array) -> Array:
    try:
        thickness = float(header.dataset.get("SliceThickness", np.nan))
    except (TypeError, ValueError):
        thickness = np.nan
    if not 0 < thickness < np.inf:
        raise InputError(
            f"{header.name}: a single slice without SliceThickness has no depth.",
            code="D30",
            expected="one positive SliceThickness (0018,0050) in mm",
            found="no number, or several" if np.isnan(thickness) else f"{thickness}",
            remedy="Give the folder of the whole series, or repair the header.",
        )
    return normal * thickness
