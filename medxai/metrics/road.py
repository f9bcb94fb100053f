"""ROAD's noisy linear imputation in two and three dimensions (Rong et al. 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medxai.errors import InputError
from medxai.metrics.imputation import Fill
from medxai.metrics.scene import Scene
from medxai.metrics.units import Removed
from medxai.shapes import Images

_LIMIT = 2000
_WEIGHTS = ((0.0, 0.0), (1 / 2, 0.0), (1 / 6, 1 / 12), (1 / 8, 1 / 48))


@dataclass(frozen=True)
class NoisyLinear:
    """Each removed voxel is the weighted mean of its neighbours, all removed voxels solved for at once, plus noise.

    x_i = sum_j w_ij x_j / sum_j w_ij over the neighbours j within the grid. In the plane w = 1/6 for the 4 beside and
    1/12 for the 4 across (Rong et al. 2022); in space 1/8 for the 6 beside and 1/48 for the 12 across an edge; an axis
    of one voxel is none. The noise is Gaussian of standard deviation `noise` in the units of the input, one draw per
    image, so that all levels share it. The system is symmetric and positive definite: conjugate gradients until the
    residual is `tolerance` of the right side. Where no voxel is left to start from, the channel's mean fills the image.
    """

    noise: float = 0.01
    tolerance: float = 1e-5

    def __call__(self, scene: Scene) -> Fill:
        drawn = torch.randn(scene.image.shape, generator=scene.generator(1)).to(scene.image)

        def fill(removed: Removed) -> Images:
            holes = removed.to(scene.image.device)
            smooth = solve(scene.image.expand(len(holes), *scene.image.shape), holes, self.tolerance)
            return torch.where(holes[:, None], smooth + self.noise * drawn, scene.image)

        return fill


def solve(images: Images, holes: Removed, tolerance: float = 1e-5) -> Images:
    """The images with their holes filled by the linear system, without noise. Raises InputError if that fails."""
    gaps = holes[:, None].to(images.dtype)
    axes = tuple(range(2, images.ndim))
    weight = _neighbours(torch.ones_like(gaps[:1])).clamp(min=torch.finfo(gaps.dtype).tiny)
    known = images * (1 - gaps)
    kept = (1 - gaps).sum(axes, keepdim=True)
    mean = torch.where(kept > 0, known.sum(axes, keepdim=True) / kept.clamp(min=1), images.mean(axes, keepdim=True))
    goal = gaps * _neighbours((images - mean) * (1 - gaps))
    return torch.where(gaps > 0, _conjugate(goal, gaps, weight, tolerance) + mean, images)


def _conjugate(goal: Tensor, gaps: Tensor, weight: Tensor, tolerance: float) -> Tensor:
    """Jacobi-preconditioned conjugate gradients for (W - N) x = goal within the gaps, each image and channel alone."""
    axes = tuple(range(2, goal.ndim))
    x = torch.zeros_like(goal)
    residual = goal.clone()
    z = residual / weight
    direction = z.clone()
    rho = (residual * z).sum(axes, keepdim=True)
    stop = rho * tolerance**2
    for _ in range(_LIMIT):
        if bool((rho <= stop).all()) or not bool(rho.isfinite().all()):
            break
        product = gaps * (weight * direction - _neighbours(direction))
        alpha = rho / (direction * product).sum(axes, keepdim=True).clamp(min=torch.finfo(goal.dtype).tiny)
        x += alpha * direction
        residual -= alpha * product
        z = residual / weight
        renewed = (residual * z).sum(axes, keepdim=True)
        direction = z + renewed / rho.clamp(min=torch.finfo(goal.dtype).tiny) * direction
        rho = renewed
    if not bool((rho <= stop).all()):
        raise InputError("The imputation does not converge.", remedy="Are there NaN or infinite values in the image?")
    return x


def _neighbours(values: Tensor) -> Tensor:
    """sum_j w_ij x_j over the neighbours at a face and across one edge; nothing lies beyond the grid."""
    beside, across = _WEIGHTS[sum(size > 1 for size in values.shape[2:])]
    faces, edges = torch.zeros_like(values), torch.zeros_like(values)
    for axis in range(2, values.ndim):
        edges += _beside(faces, axis)
        faces += _beside(values, axis)
    return beside * faces + across * edges


def _beside(values: Tensor, axis: int) -> Tensor:
    """x(i-1) + x(i+1) along one axis, zero beyond the grid."""
    total = torch.zeros_like(values)
    size = values.shape[axis]
    total.narrow(axis, 1, size - 1).add_(values.narrow(axis, 0, size - 1))
    total.narrow(axis, 0, size - 1).add_(values.narrow(axis, 1, size - 1))
    return total
