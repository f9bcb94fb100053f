"""Maps that know nothing of the image: what a score is worth is its distance from theirs."""

from collections.abc import Mapping

import torch

from medxai.metrics.domain import seen
from medxai.shapes import Map


def uniform(saliency: Map) -> Map:
    """The same value at every voxel that the model saw."""
    return torch.ones_like(saliency).masked_fill(~seen(saliency), torch.nan)


def centre(saliency: Map) -> Map:
    """A Gaussian in the middle of what the model saw, as wide along each axis as the spread of the seen voxels."""
    field = seen(saliency)
    squared = torch.zeros_like(saliency)
    for axis, size in enumerate(saliency.shape):
        position = torch.arange(size, dtype=torch.float64)
        share = field.sum([a for a in range(saliency.ndim) if a != axis]).double()
        share = share / share.sum().clamp(min=1)
        mean = (share * position).sum()
        variance = (share * (position - mean) ** 2).sum().clamp(min=1e-12)
        along = ((position - mean) ** 2 / variance).to(saliency.dtype)
        squared += along.reshape([-1 if a == axis else 1 for a in range(saliency.ndim)])
    return torch.exp(-squared / 2).masked_fill(~field, torch.nan)


def baselines(saliency: Map) -> Mapping[str, Map]:
    """Every chance map by name, on the grid and field of `saliency`."""
    return {"uniform": uniform(saliency), "centre": centre(saliency)}
