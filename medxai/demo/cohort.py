"""The demo's cases: chests with up to two lesions, scanned on oblique, flipped, anisotropic grids."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from medxai.core.geometry import Geometry
from medxai.core.volume import Case, Mask, Volume
from medxai.demo.chest import Chest, Points32
from medxai.demo.drawing import draw_chest

FIELD_MM = (262.0, 190.0, 164.0)
NOISE_HU = 28.0
TILT_DEGREES = 15.0


@dataclass(frozen=True, eq=False)
class Patient:
    """A case together with the truth that it was made from; `origin` is where the chest's origin lies in the world."""

    case: Case
    chest: Chest
    origin: Points32


def draw_patient(seed: int, number: int, lesions: int | None = None) -> Patient:
    """Patient `number` of the cohort `seed`, with one lesion where that is odd, or as many as `lesions` says.

    Same arguments, same voxels.
    """
    rng = np.random.default_rng((seed, number))
    chest = draw_chest(rng, number % 2 if lesions is None else lesions)
    origin = rng.uniform(-60, 60, 3).astype(np.float32)
    geometry = _draw_grid(rng, origin)
    points = positions(geometry) - origin[:, None]
    hu = chest.hounsfield(points) + NOISE_HU * rng.standard_normal(points.shape[1], np.float32)
    voxels = np.round(np.clip(hu, -1024, 3071)).astype(np.int16).reshape(1, *geometry.shape)
    masks = {}
    if chest.lesions:
        lesion = np.any([one.radius(points) <= 1 for one in chest.lesions], axis=0).reshape(geometry.shape)
        masks["lesion"] = Mask(torch.from_numpy(lesion), geometry)
    image = Volume(torch.from_numpy(voxels), geometry, "CT")
    return Patient(Case(f"patient-{number:02d}", image, masks, {"lesion": float(bool(chest.lesions))}), chest, origin)


def _draw_grid(rng: np.random.Generator, centre: Points32) -> Geometry:
    in_plane = rng.uniform(1.6, 2.2)
    spacing = np.array([in_plane, in_plane, rng.uniform(3, 5)])
    shape = np.ceil(np.array(FIELD_MM) / spacing).astype(int)
    way = rng.normal(size=3)
    tilt = Rotation.from_rotvec(np.radians(rng.uniform(-TILT_DEGREES, TILT_DEGREES)) * way / np.linalg.norm(way))
    affine = np.eye(4)
    affine[:3, :3] = tilt.as_matrix() * spacing * rng.choice([-1.0, 1.0], 3)
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return Geometry(affine, tuple(int(n) for n in shape))


def positions(geometry: Geometry) -> Points32:
    """Where each voxel lies: (3, n) in mm, RAS+, in the order of the flattened grid."""
    steps = [geometry.affine[:3, a, None] * np.arange(n) for a, n in enumerate(geometry.shape)]
    first, second, third = (step.astype(np.float32) for step in steps)
    start = geometry.affine[:3, 3].astype(np.float32)[:, None, None, None]
    grid = first[:, :, None, None] + second[:, None, :, None] + third[:, None, None, :] + start
    return np.asarray(grid.reshape(3, -1), np.float32)
