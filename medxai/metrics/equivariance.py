"""Does the map follow the image: mirrored and moved images must have mirrored and moved maps."""

import torch
from torch import Tensor

from medxai.metrics.similarity import pearson
from medxai.metrics.spec import MetricSpec
from medxai.metrics.trial import Trial
from medxai.shapes import Images


def flip_equivariance(trial: Trial) -> float:
    """Correlation of the map with the mirrored map of the mirrored image, mean over axes and images: 1 is best.

    Exactly 1 for a network that commutes with flips; a network that does not is charged here to its method too.
    """
    axes = [axis for axis in range(1, trial.maps.ndim) if trial.maps.shape[axis] > 1]
    found = [trial.explain(trial.images.flip(axis + 1)).flip(axis) for axis in axes]
    return _mean(trial, [(trial.maps, maps) for maps in found])


def shift_equivariance(trial: Trial) -> float:
    """Correlation of the map with the map of the image moved by a sixteenth along each axis, moved back: 1 is best.

    The border voxel is repeated where the image leaves; only voxels are compared that stay within the image both times.
    """
    found = []
    for axis in range(1, trial.maps.ndim):
        size = trial.maps.shape[axis]
        step = max(1, size // 16)
        if size > 2 * step:
            moved = trial.explain(shifted(trial.images, axis + 1, step))
            length = size - 2 * step
            found.append((trial.maps.narrow(axis, step, length), moved.narrow(axis, 2 * step, length)))
    return _mean(trial, found)


def shifted(images: Images, axis: int, step: int) -> Images:
    """The images moved by `step` > 0 voxels to higher indices, their first slice repeated."""
    size = images.shape[axis]
    return images.index_select(axis, (torch.arange(size, device=images.device) - step).clamp(min=0))


def _mean(trial: Trial, pairs: list[tuple[Tensor, Tensor]]) -> float:
    found = [pearson(a, b) for first, second in pairs for a, b in zip(first, second, strict=True)]
    return trial.mean(found, "no pair of maps can be compared")


METRICS = (
    MetricSpec(flip_equivariance, needs="method", best=1.0, span=(-1.0, 1.0)),
    MetricSpec(shift_equivariance, needs="method", best=1.0, span=(-1.0, 1.0)),
)
