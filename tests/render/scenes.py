"""Saliencies and images of known content, for pictures."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency, Status
from medxai.core.volume import Mask, Volume

KNOWN = Provenance(
    method="GradCAM",
    parameters={},
    model="",
    recipe_name="",
    recipe=(),
    weights_sha256="",
    input_sha256="",
    seed=0,
    device="cpu",
    seconds=0.0,
    versions={},
    target="ClassScore(index=1)",
    layer="features",
    score=2.5,
)


def grid(
    order: tuple[int, int, int] = (0, 1, 2),
    signs: tuple[int, int, int] = (1, 1, 1),
    spacing: tuple[float, float, float] = (1.0, 1.5, 4.0),
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0),
    shape: tuple[int, int, int] = (24, 20, 9),
) -> Geometry:
    """Array axis a follows patient axis order[a] with the given sign and step, then all is tilted (degrees)."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign, step) in enumerate(zip(order, signs, spacing, strict=True)):
        affine[world, axis] = sign * step
    affine[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = (11.0, -7.0, 30.0)
    return Geometry(affine, shape)


def picture_grid(shape: tuple[int, int], spacing: float | None = None) -> Geometry:
    """A film as the readers place it: rows towards the back, columns towards the left, at the origin."""
    lps = np.eye(4)
    lps[:3, :2] = [[0.0, spacing or 1.0], [spacing or 1.0, 0.0], [0.0, 0.0]]
    return Geometry.from_lps(lps, shape, "mm" if spacing else "unknown")


def image_on(geometry: Geometry, channels: int = 1) -> Volume:
    generator = torch.Generator().manual_seed(3)
    return Volume(torch.rand((channels, *geometry.shape), generator=generator), geometry)


def saliency_on(
    geometry: Geometry, at: tuple[int, ...], *, seen: Geometry | None = None, status: Status | None = None
) -> Saliency:
    """Zero but for a bump of height 2 at one voxel and its neighbours."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), -1)
    bump = 2 * np.exp(-((index - np.array(at)) ** 2).sum(-1) / 4)
    bump[bump < 0.05] = 0
    data = torch.from_numpy(bump.astype(np.float32))
    return Saliency(data, geometry, seen or geometry, KNOWN, status or Status())


def mask_at(geometry: Geometry, at: tuple[int, ...], radius: int = 3) -> Mask:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), -1)
    return Mask(torch.from_numpy(np.abs(index - np.array(at)).max(-1) <= radius), geometry)
