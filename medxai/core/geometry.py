"""Where voxels are: index (i, j, k) to patient millimetres, RAS+. The only home of orientation arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from medxai.errors import GeometryError
from medxai.shapes import Affine, Points

Units = Literal["mm", "unknown"]

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
_SAME_MM = 1e-3
_MOST_GROWTH = 8


@dataclass(frozen=True, eq=False)
class Geometry:
    """A grid of two or three axes in the patient: world = affine @ (i, j, k, 1), in millimetres, RAS+.

    A 2D grid indexes (row, column); its third affine column is the slice normal, one unit long.
    `units="unknown"` means that one step is one pixel of unknown size: `spacing_mm` then refuses to answer.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, ...]
    units: Units = "mm"

    def __post_init__(self) -> None:
        affine = np.array(self.affine, np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
            raise GeometryError(
                "This affine maps no index to a position.",
                expected="a finite 4x4 matrix whose last row is 0 0 0 1",
                found=f"shape {affine.shape}: {affine.tolist()}",
                remedy="Repair the header, or pass the affine yourself.",
            )
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if lengths.min() == 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
            raise GeometryError(
                "This affine is singular, so two voxels share one position.",
                expected="three independent voxel axes",
                found=f"{affine[:3, :3].tolist()}",
                remedy="Check spacing and orientation of the source file.",
            )
        shape = tuple(int(n) for n in self.shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise GeometryError("A grid has two or three axes of at least one voxel.", found=f"shape {shape}")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", shape)

    @classmethod
    def from_lps(cls, affine: Affine, shape: Sequence[int], units: Units = "mm") -> "Geometry":
        """The same grid, its affine given in the LPS+ world of DICOM and ITK."""
        return cls(_LPS_RAS @ np.asarray(affine, np.float64), tuple(shape), units)

    @property
    def lps(self) -> Affine:
        """The affine to the LPS+ world of DICOM and ITK."""
        return np.asarray(_LPS_RAS @ self.affine, np.float64)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def shape3(self) -> tuple[int, int, int]:
        """The shape as three axes; a 2D grid is one slice deep."""
        first, second, third = (*self.shape, 1)[:3]
        return first, second, third

    @property
    def spacing(self) -> tuple[float, ...]:
        """Length of one step along each array axis, in `units`."""
        return tuple(float(v) for v in np.linalg.norm(self.affine[:3, : self.ndim], axis=0))

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Length of one step along each array axis in millimetres; refuses where the pixel size is unknown."""
        if self.units != "mm":
            raise GeometryError(
                "Millimetres were asked of a grid whose pixel size is unknown.",
                remedy="Use pixel metrics, or load the image with spacing=(row_mm, column_mm).",
            )
        return self.spacing

    @property
    def voxel_size(self) -> float:
        """Volume (3D) or area (2D) that one step along each axis spans, in `units`; true for sheared grids too."""
        axes = self.affine[:3, : self.ndim]
        return float(np.sqrt(np.linalg.det(axes.T @ axes)))

    @property
    def voxel_size_mm(self) -> float:
        """`voxel_size` in mm3 or mm2; refuses where the pixel size is unknown."""
        _ = self.spacing_mm
        return self.voxel_size

    @property
    def follows(self) -> tuple[int, int, int]:
        """For each of the three affine columns the patient axis (0 x, 1 y, 2 z) nearest to it, each taken once."""
        cosines = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        _, main = linear_sum_assignment(-np.abs(cosines.T))
        return int(main[0]), int(main[1]), int(main[2])

    @property
    def axcodes(self) -> str:
        """For each array axis the patient direction it points to most, e.g. 'RAS'; no two share one line."""
        return "".join(_LETTERS[w][int(self.affine[w, a] > 0)] for a, w in enumerate(self.follows[: self.ndim]))

    def world(self, index: Points) -> Points:
        """Positions in mm, RAS+, of (fractional) voxel indices."""
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3], np.float64)

    def index(self, world: Points) -> Points:
        """(Fractional) voxel indices of positions in mm, RAS+."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(world @ inverse[:3, :3].T + inverse[:3, 3], np.float64)

    def coarse(self, start: Sequence[float], jump: Sequence[float], shape: Sequence[int]) -> "Geometry":
        """Grid of a feature map whose cell i sits at voxel `start + jump * i` of this grid."""
        step = np.eye(4)
        for axis, (s, j) in enumerate(zip(start, jump, strict=True)):
            step[axis, axis], step[axis, 3] = j, s
        return Geometry(self.affine @ step, tuple(shape), self.units)

    def orthogonal(self) -> "Geometry":
        """The smallest grid without shear that covers this one; this one itself where it has none (1e-3 at a corner).

        Of the axes A = QR, Q takes the directions and the diagonal of R the steps: the first axis stays as it is, the
        second keeps its plane, and slice k of a tilted series lies in the plane of slice k here. Raises GeometryError
        where that would take more than eight times the voxels.
        """
        directions, shear = np.linalg.qr(self.affine[:3, :3])
        steps = np.diag(shear)
        affine = self.affine.copy()
        affine[:3, :3] = directions * steps
        if Geometry(affine, self.shape, self.units).distance(self) <= _SAME_MM:
            return self
        corners = self._corners @ (shear / steps[:, None]).T
        low, high = np.floor(corners.min(axis=0) + 1e-6), np.ceil(corners.max(axis=0) - 1e-6)
        shape = [int(n) for n in high - low + 1]
        if prod(shape) > _MOST_GROWTH * prod(self.shape):
            raise GeometryError(
                "This grid is sheared too far to be covered by one without shear.",
                expected=f"at most {_MOST_GROWTH} times its voxels",
                found=f"{' x '.join(map(str, shape))} for {self}",
                remedy="Keep the grid as it is, or repair the header.",
            )
        affine[:3, 3] += affine[:3, :3] @ low
        return Geometry(affine, tuple(shape[: self.ndim]), self.units)

    @property
    def _corners(self) -> Points:
        """The indices of the eight corner voxels."""
        return np.array(list(product(*[(0, n - 1) for n in self.shape3])), np.float64)

    def distance(self, other: "Geometry") -> float:
        """The farthest that any corner voxel of the two grids lies apart, in `units`; infinite where shapes differ."""
        if self.shape3 != other.shape3:
            return float("inf")
        apart = self.world(self._corners) - other.world(self._corners)
        return float(np.linalg.norm(apart, axis=1).max())

    def same(self, other: "Geometry", tolerance: float = 1e-3) -> bool:
        """Whether every voxel of the two grids coincides within `tolerance` (mm, or pixels of unknown size)."""
        return self.units == other.units and self.distance(other) <= tolerance

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return (self.shape, self.units) == (other.shape, other.units) and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.affine.tobytes(), self.shape, self.units))

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.shape))
        step = " x ".join(f"{v:.4g}" for v in self.spacing)
        return f"Geometry({size} at {step} {'mm' if self.units == 'mm' else 'unknown units'}, {self.axcodes})"
