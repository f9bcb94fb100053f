"""Maps that know nothing of the finding: what a score is worth is its distance from theirs."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import ndimage

from medxai.shapes import Map, MaskArray


def uniform(saliency: Map) -> Map:
    """The same value at every voxel that the model saw."""
    return torch.ones_like(saliency).masked_fill(saliency.isnan(), torch.nan)


def centre(saliency: Map) -> Map:
    """A Gaussian in the middle of what the model saw, as wide along each axis as the spread of the seen voxels."""
    field = ~saliency.isnan()
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


def edges(saliency: Map, image: Map, spacing: Sequence[float]) -> Map:
    """Length of the image's gradient per unit of length, smoothed over one voxel: where any edge is, sick or healthy.

    What the image does not state (NaN) has no edge.
    """
    flat = image.nan_to_num(nan=0.0).to(torch.float32).numpy()
    squared = np.zeros_like(flat)
    for axis, step in enumerate(spacing):
        order = [int(a == axis) for a in range(flat.ndim)]
        squared += (ndimage.gaussian_filter(flat, 1.0, order=order, mode="nearest") / step) ** 2
    return torch.from_numpy(np.sqrt(squared)).to(saliency.dtype).masked_fill(saliency.isnan(), torch.nan)


def body(saliency: Map, image: Map) -> Map:
    """The same value wherever the image is brighter than the air or background around the patient, by Otsu's threshold.

    The largest part, its holes filled; a constant image is all body. What the image does not state (NaN) is none.
    """
    from skimage.filters import threshold_otsu

    flat = image.nan_to_num(nan=-np.inf).numpy()
    known = flat[np.isfinite(flat)]
    if not known.size or known.min() == known.max():
        return uniform(saliency)
    parts, number = ndimage.label(flat > threshold_otsu(known))
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel(), minlength=number + 1)[1:])
    filled = torch.from_numpy(ndimage.binary_fill_holes(largest))
    return filled.to(saliency.dtype).masked_fill(saliency.isnan(), torch.nan)


def others(saliency: Map, maps: Sequence[torch.Tensor]) -> Map:
    """The mean map of other patients, their axes as those of `saliency`, corner on corner and each weighing the same.

    Nothing is registered.
    """
    total = torch.zeros_like(saliency)
    mode = {2: "bilinear", 3: "trilinear"}[saliency.ndim]
    for values in maps:
        positive = values.nan_to_num(nan=0.0).clamp(min=0)[None, None].to(saliency.dtype)
        laid = torch.nn.functional.interpolate(positive, tuple(saliency.shape), mode=mode, align_corners=False)[0, 0]
        total += laid / laid.sum().clamp(min=torch.finfo(laid.dtype).tiny)
    return total.masked_fill(saliency.isnan(), torch.nan)


def noise(saliency: Map, seed: int = 0) -> Map:
    """Independent uniform values."""
    drawn = torch.rand(saliency.shape, generator=torch.Generator().manual_seed(seed), dtype=saliency.dtype)
    return drawn.masked_fill(saliency.isnan(), torch.nan)


def baselines(saliency: Map) -> Mapping[str, Map]:
    """The chance maps that need nothing else, by name, on the grid and field of `saliency`."""
    return {"uniform": uniform(saliency), "centre": centre(saliency)}


def moved(mask: MaskArray | Map, field: MaskArray, number: int, seed: int = 0) -> list[MaskArray | Map]:
    """The mask shifted at random to `number` places where as much of it lies in the field as now, never turned.

    Fewer places are answered where a hundred draws for each do not find them.
    """
    draw = np.random.default_rng(seed)
    marked = torch.nonzero(mask)
    if not len(marked):
        return []
    low, high = marked.min(0).values.numpy(), marked.max(0).values.numpy()
    shares = mask[tuple(marked.T)]
    needed = float(shares[field[tuple(marked.T)]].sum()) - 1e-9
    found: list[MaskArray | Map] = []
    for _ in range(100 * number):
        shift = torch.from_numpy(draw.integers(-low, np.array(mask.shape) - high))
        places = tuple((marked + shift).T)
        if shift.any() and float(shares[field[places]].sum()) >= needed:
            placed = torch.zeros_like(mask)
            placed[places] = shares
            found.append(placed)
        if len(found) == number:
            break
    return found
