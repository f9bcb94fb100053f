"""How a voxel plane hangs on the light box: patient right on the viewer's left, head up, front up or left.

Every plane is shown along voxel axes, never resampled across them. Each array axis stands for the patient axis that it
follows most closely (each patient axis taken once); of the two axes of a plane the lower (x before y before z) runs
across and the other down, towards left, back and feet: the radiological convention for axial, coronal and sagittal.
"""

from dataclasses import dataclass

import numpy as np

from medxai.core.geometry import Geometry
from medxai.render.palette import Values

_NAMES = ("sagittal", "coronal", "axial")
_TOWARDS = (("L", "R"), ("P", "A"), ("I", "S"))
_TWO_LETTERS = 0.38
_STRIP = 7
_OPPOSITE = str.maketrans("LRPAIS", "RLAPSI")


@dataclass(frozen=True)
class View:
    """The plane `index` of array axis `axis`; array axes `across` and `down` run right and down, or back if reversed.

    `size` is (width, height) in the units of the grid; `letters` are the patient directions at left, right, top and
    bottom, empty where the grid does not know the patient.
    """

    axis: int
    index: int
    across: int
    down: int
    reverse: tuple[bool, bool]
    size: tuple[float, float]
    letters: tuple[str, str, str, str]
    name: str

    def cut(self, values: Values) -> Values:
        """The plane of a three-axis array, as rows from top to bottom."""
        plane: Values = np.take(values, self.index, axis=self.axis)
        plane = plane.T if self.across < self.down else plane
        return plane[:: -1 if self.reverse[1] else 1, :: -1 if self.reverse[0] else 1]

    def place(self, index: tuple[int, ...], shape: tuple[int, ...]) -> tuple[float, float]:
        """Where a voxel lies in the view: shares of width from the left and of height from the top."""
        shares = [(index[a] + 0.5) / shape[a] for a in (self.across, self.down)]
        across, down = (1 - s if back else s for s, back in zip(shares, self.reverse, strict=True))
        return across, down


def view(geometry: Geometry, axis: int, index: int) -> View:
    """The plane `index` of array axis `axis`, turned for reading."""
    follows = geometry.follows
    across, down = sorted((a for a in range(3) if a != axis), key=lambda a: follows[a])
    unit = _directions(geometry)
    back = tuple(bool(unit[follows[a], a] > 0) for a in (across, down))
    right, bottom = (_letters(unit[:, a] * (-1 if b else 1)) for a, b in zip((across, down), back, strict=True))
    letters = (right.translate(_OPPOSITE), right, bottom.translate(_OPPOSITE), bottom)
    known = placed(geometry)
    step = np.linalg.norm(geometry.affine[:3, :3], axis=0)
    size = (float(step[across] * geometry.shape3[across]), float(step[down] * geometry.shape3[down]))
    name = _NAMES[follows[axis]] if known else ""
    return View(axis, index, across, down, (back[0], back[1]), size, letters if known else ("",) * 4, name)


def planes_through(geometry: Geometry, index: tuple[int, ...]) -> list[View]:
    """The planes through a voxel that are more than one voxel wide both ways, axial first; the only one of a film."""
    shape = geometry.shape3
    follows = geometry.follows
    wide = [a for a in range(3) if all(n > 1 for b, n in enumerate(shape) if b != a)]
    return [view(geometry, a, index[a]) for a in sorted(wide or [2], key=lambda a: -follows[a])]


def strip(geometry: Geometry, spans: list[tuple[int, int]], axis: int) -> list[View]:
    """Up to seven planes of one axis, evenly spaced over all spans (first and last index), the highest in z first."""
    first, last = min(s[0] for s in spans), max(s[1] for s in spans)
    chosen = np.unique(np.round(np.linspace(first, last, min(_STRIP, last - first + 1))).astype(int))
    step = geometry.affine[:3, axis]
    order = chosen if step[geometry.follows[axis]] < 0 else chosen[::-1]
    return [view(geometry, axis, int(n)) for n in order]


def sparsest_axis(geometry: Geometry) -> int:
    """The axis with the longest step between planes; where steps are equal, the one that runs head to feet."""
    follows = geometry.follows
    return max(range(3), key=lambda a: (round(float(np.linalg.norm(geometry.affine[:3, a])), 3), follows[a]))


def placed(geometry: Geometry) -> bool:
    """Whether the grid knows the patient: not in pixels, nor a film at the origin along the axes as films are read."""
    unplaced = geometry.ndim == 2 and np.array_equal(geometry.lps[:3, 3], np.zeros(3)) and _film(geometry)
    return geometry.units == "mm" and not unplaced


def _film(geometry: Geometry) -> bool:
    return bool(np.allclose(_directions(geometry)[:, :2], [[0, -1], [-1, 0], [0, 0]], atol=1e-9))


def _directions(geometry: Geometry) -> Values:
    columns = geometry.affine[:3, :3]
    return np.asarray(columns / np.linalg.norm(columns, axis=0))


def _letters(direction: Values) -> str:
    order = np.argsort(-np.abs(direction), kind="stable")
    shown = [w for w in order if abs(direction[w]) > _TWO_LETTERS] or [order[0]]
    return "".join(_TOWARDS[w][int(direction[w] > 0)] for w in shown)
