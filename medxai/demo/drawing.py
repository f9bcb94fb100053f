"""Chests drawn at random: vessels, size and ribs of each, and where its lesions lie."""

import numpy as np

from medxai.demo.chest import (
    DOME_DEPTH,
    DOME_RADII,
    LUNG_RADII,
    LUNGS,
    PERICARDIUM,
    Chest,
    Ellipsoid,
    Points32,
    Triple,
    depth_below,
)

LESION_RADII_MM = (11.0, 22.0)


def draw_chest(rng: np.random.Generator, lesions: int) -> Chest:
    """A chest drawn from the cohort; a lesion lies wholly within a lung, off its centre, and a second in the other."""
    vessels = tuple(vessel for side in LUNGS for vessel in _tree(rng, side))
    scale = float(rng.uniform(0.94, 1.06))
    phase = float(rng.uniform(0, 26))
    return Chest(scale, phase, vessels, _lesions(rng, scale, lesions))


def _tree(rng: np.random.Generator, side: Triple) -> list[tuple[Points32, Points32, float]]:
    hilum = np.array([side[0] * 0.42, -2, 2], np.float32)
    branches = []
    for _ in range(5):
        way = rng.normal(size=3) * (0.7, 1, 1)
        way[0] = np.sign(side[0]) * (abs(way[0]) + 0.5)
        knee = hilum + way / np.linalg.norm(way) * rng.uniform(26, 40)
        branches.append((hilum, knee.astype(np.float32), float(rng.uniform(2.4, 3.6))))
        for _ in range(2):
            tip = knee + (way / np.linalg.norm(way) + rng.normal(size=3) * 0.45) * rng.uniform(18, 36)
            branches.append((knee.astype(np.float32), tip.astype(np.float32), float(rng.uniform(1.2, 2.0))))
    return branches


def _lesions(rng: np.random.Generator, scale: float, count: int) -> tuple[Ellipsoid, ...]:
    found: dict[bool, Ellipsoid] = {}
    while len(found) < min(count, len(LUNGS)):
        lesion = _lesion(rng, scale)
        found.setdefault(bool(lesion.centre[0] > 0), lesion)
    return tuple(found.values())


def _lesion(rng: np.random.Generator, scale: float) -> Ellipsoid:
    surface = rng.normal(size=(3, 200))
    surface /= np.linalg.norm(surface, axis=0)
    while True:
        side = LUNGS[rng.integers(2)]
        centre = np.array(side) + rng.uniform(-1, 1, 3) * LUNG_RADII
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        radii = rng.uniform(*LESION_RADII_MM, (2, 3))
        own = surface * np.where(surface > 0, radii[0][:, None], radii[1][:, None])
        edge = (centre[:, None] + axes @ own).astype(np.float32)
        obstacles = (PERICARDIUM, ((side[0], side[1], DOME_DEPTH), DOME_RADII))
        room = np.minimum.reduce([depth_below(edge, side, LUNG_RADII), *(-depth_below(edge, *o) for o in obstacles)])
        if room.min() > 1:
            return Ellipsoid(*((v * scale).astype(np.float32) for v in (centre, axes / scale, radii)))
