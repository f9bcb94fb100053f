"""A synthetic chest as a function of position: Hounsfield units at any point in mm, RAS+, origin mid-thorax."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points32 = NDArray[np.float32]
Field = NDArray[np.float32]

Triple = tuple[float, float, float]

AIR, FAT, MUSCLE, LUNG, BONE, STERNUM = -1000.0, -95.0, 45.0, -830.0, 380.0, 210.0
VESSEL, LIVER, LESION, CORD, TRACHEA = 35.0, 60.0, 30.0, 25.0, -980.0
LUNGS: tuple[Triple, Triple] = ((-62.0, 2.0, 0.0), (62.0, 2.0, 0.0))
LUNG_RADII: Triple = (45.0, 64.0, 84.0)
DOME_RADII: Triple = (52.0, 68.0, 46.0)
DOME_DEPTH = -86.0
PERICARDIUM: tuple[Triple, Triple] = ((-14.0, 26.0, -44.0), (44.0, 40.0, 48.0))
HEART: tuple[Triple, Triple] = ((-14.0, 24.0, -42.0), (38.0, 34.0, 40.0))


@dataclass(frozen=True)
class Ellipsoid:
    """A lobed ellipsoid: `radii[0]` along the positive and `radii[1]` along the negative half of each own axis."""

    centre: Points32
    axes: Points32
    radii: Points32

    def radius(self, points: Points32) -> Field:
        """1 on the surface, less within, more without."""
        own = self.axes.T @ (points - self.centre[:, None])
        own /= np.where(own > 0, self.radii[0][:, None], self.radii[1][:, None])
        return np.asarray(np.sqrt((own * own).sum(0)), np.float32)

    def near(self, points: Points32) -> NDArray[np.intp]:
        """Which points can lie within; the others are farther than the longest radius along x, y or z."""
        reach = self.radii.max() + 4
        return np.flatnonzero((np.abs(points - self.centre[:, None]) < reach).all(0))


@dataclass(frozen=True)
class Chest:
    """One person's anatomy; the healthy have no `lesions`."""

    scale: float
    rib_phase: float
    vessels: tuple[tuple[Points32, Points32, float], ...]
    lesions: tuple[Ellipsoid, ...]

    def hounsfield(self, points: Points32) -> Field:
        """HU at each point (3, n), without noise."""
        p = points / np.float32(self.scale)
        hu = np.full(p.shape[1], AIR, np.float32)
        outline = np.hypot(p[0] / 126, p[1] / 90)
        body = np.flatnonzero(outline < 1.05)
        hu[body] = self._body(p[:, body], outline[body])
        for lesion in self.lesions:
            near = lesion.near(points)
            depth = (1 - lesion.radius(points[:, near])) * lesion.radii.mean()
            hu[near] = _paint(hu[near], LESION, depth, 1.0)
        return hu

    def _body(self, p: Points32, outline: Field) -> Field:
        hu = _paint(np.full(len(outline), AIR, np.float32), FAT, (1 - outline) * 100)
        hu = _paint(hu, MUSCLE, (0.92 - outline) * 100)
        hu = _paint(hu, FAT, depth_below(p, *PERICARDIUM))
        for side in LUNGS:
            hu = self._lung(hu, p, side)
        hu = _paint(hu, MUSCLE, depth_below(p, *HEART))
        return self._bones(hu, p, outline)

    def _lung(self, hu: Field, p: Points32, side: Triple) -> Field:
        dome = depth_below(p, (side[0], side[1], DOME_DEPTH), DOME_RADII)
        air = np.minimum(depth_below(p, side, LUNG_RADII), -dome)
        hu = _paint(hu, LUNG + 40 * np.clip(-p[1] / 60, -1, 1), air)
        hu = _paint(hu, LIVER, np.where(air > -8, -9, dome))
        inner = np.flatnonzero(air > 0)
        inner = inner[np.argsort(p[2, inner], kind="stable")]
        within, tree = p[:, inner], np.full(len(inner), -9.0, np.float32)
        for start, stop, width in self.vessels:
            low, high = np.searchsorted(within[2], sorted((start[2] - 6, stop[2] - 6, start[2] + 6, stop[2] + 6))[::3])
            depth = width - _segment(within[:, low:high], start, stop)
            tree[low:high] = np.maximum(tree[low:high], depth)
        hu[inner] = _paint(hu[inner], VESSEL, tree, 0.8)
        return hu

    def _bones(self, hu: Field, p: Points32, outline: Field) -> Field:
        x, y, z = p
        lean = z - 0.45 * y + np.float32(self.rib_phase)
        across = np.abs(np.mod(lean, 26) - 13)
        hu = _paint(hu, BONE, 4.2 - np.hypot(across, (outline - 0.84) * 95))
        hu = _paint(hu, STERNUM, np.minimum(13 - np.abs(x), 5 - np.abs(y - 76)))
        middle = np.flatnonzero((np.abs(x) < 20) & (y < -15))
        hu[middle] = self._spine(hu[middle], p[:, middle])
        return hu

    def _spine(self, hu: Field, p: Points32) -> Field:
        x, y, z = p
        disc = np.abs(np.mod(z + np.float32(self.rib_phase), 24) - 12) < 3
        hu = _paint(hu, np.where(disc, 90, 250), 16 - np.hypot(x, y + 58))
        hu = _paint(hu, STERNUM, np.minimum(9 - np.abs(x), 7 - np.abs(y + 79)))
        hu = _paint(hu, CORD, 7 - np.hypot(x, y + 76))
        return _paint(hu, TRACHEA, 8 - np.hypot(x, y + 28) - np.maximum(0, -2 * z))


def _paint(hu: Field, value: Any, depth: Any, softness: float = 1.2) -> Field:
    share = np.clip(0.5 + depth / np.float32(2 * softness), 0, 1).astype(np.float32)
    return np.asarray(hu + share * (np.asarray(value, np.float32) - hu), np.float32)


def depth_below(p: Points32, centre: Triple, radii: Triple) -> Field:
    """About the distance in mm below the surface of an ellipsoid; negative outside."""
    own = [(p[a] - np.float32(centre[a])) / np.float32(radii[a]) for a in range(3)]
    within = 1 - np.sqrt(own[0] ** 2 + own[1] ** 2 + own[2] ** 2)
    return np.asarray(within * np.float32(sum(radii) / 3), np.float32)


def _segment(p: Points32, start: Points32, stop: Points32) -> Field:
    """Distance to the line from `start` to `stop`."""
    way = stop - start
    off = p - start[:, None]
    off = off - way[:, None] * np.clip(way @ off / (way @ way), 0, 1)
    return np.asarray(np.sqrt(off[0] ** 2 + off[1] ** 2 + off[2] ** 2), np.float32)
