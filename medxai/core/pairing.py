"""Whether an annotation can belong to an image: their grids meet in the patient, and never by shape alone."""

import numpy as np

from medxai.core.geometry import Geometry
from medxai.errors import GeometryError, MaskError

_CLOSE = 0.1  # mm, or voxels


def paired(
    image: Geometry, mask: Geometry, *, same_grid: bool = False, other_grid: bool = False, what: str = "mask"
) -> tuple[str, ...]:
    """What there is to notice where a mask on the grid `mask`, called `what`, is compared with one on `image`.

    A mask is read where its own header places it. Raises `MaskError` where that would be by chance: grids of unknown
    units that are not one grid, a flat mask and a volume, and a mask of the image's shape that lies elsewhere, whose
    header may have lost the orientation (`other_grid` permits it). `same_grid` refuses whatever is not one grid.
    """
    if image.units != mask.units:
        return ()  # `refuse_other_units` is for who lays one on the other
    if 2 in (image.ndim, mask.ndim) and (image.shape3[2] > 1) != (mask.shape3[2] > 1):
        raise _apart(
            f"One of {what} and image is flat, the other a volume.", image, mask, "N15", f"Give the volume's {what}."
        )
    close = _CLOSE if image.units == "mm" else 1e-3
    if mask.distance(image) <= close:
        return ()
    if image.units == "unknown":
        problem = f"{what.capitalize()} and image state no place in the patient and are not one grid."
        raise _apart(
            problem, image, mask, "M02", f"Give {what} and image of one size, or files that state their place."
        )
    if same_grid:
        raise _apart(
            f"The {what} is not on the grid of the image.", image, mask, "M01", "Leave strict_grid out, or resample it."
        )
    if _same_voxels(image, mask):
        return (f"M02: the {what}'s axes run in another order or direction: read by position",)
    if mask.shape3 == image.shape3 and not other_grid:
        apart = f"up to {mask.distance(image):.3g} mm apart at a corner"
        problem = f"The {what} has the image's shape and lies elsewhere, {apart}."
        remedy = f"Repair the {what}'s header; if it is right, permit it with other_grid=True (--other-grid)."
        raise _apart(problem, image, mask, "M02", remedy)
    return (f"M01: the {what} is on another grid than the image: the map is read at the {what}'s voxels",)


def refuse_other_units(source: Geometry, target: Geometry, what: str = "map", onto: str = "grid") -> None:
    """Raise GeometryError where one grid is in millimetres and the pixel size of the other is unknown."""
    if source.units == target.units:
        return
    raise GeometryError(
        "What is placed in millimetres and what has no known pixel size cannot be laid on each other.",
        found=f"{what} {source} and {onto} {target}",
        remedy="Give the pixel size of the one that states none: spacing=(row_mm, column_mm), or --spacing.",
    )


def _same_voxels(image: Geometry, mask: Geometry) -> bool:
    """Whether both grids have the same voxel centres, their axes permuted or turned round."""
    hop = np.linalg.inv(image.affine) @ mask.affine
    turn, shift = np.rint(hop[:3, :3]), np.rint(hop[:3, 3])
    if not np.array_equal(turn @ turn.T, np.eye(3)):
        return False
    size = np.array(mask.shape3) - 1
    ends = np.stack([shift, turn @ size + shift])
    covered = np.array_equal(ends.min(0), np.zeros(3)) and np.array_equal(ends.max(0), np.array(image.shape3) - 1)
    corners = np.array(np.meshgrid(*[(0, n) for n in size], indexing="ij")).reshape(3, -1)
    off = (hop[:3, :3] - turn) @ corners + (hop[:3, 3] - shift)[:, None]
    return bool(covered and np.abs(off).max() <= _CLOSE)


def _apart(problem: str, image: Geometry, mask: Geometry, code: str, remedy: str) -> MaskError:
    return MaskError(problem, expected=f"one on {image}", found=f"{mask}", remedy=remedy, code=code)
