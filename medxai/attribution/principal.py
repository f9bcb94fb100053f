"""The first principal component of a layer's cells, without ever holding more than its smaller Gram matrix."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medxai.shapes import Features, Maps, Scores

_CHUNK = 1 << 21  # numbers in float64 at a time: 16 MiB


@dataclass(frozen=True, eq=False, slots=True)
class Component:
    """Each cell's coordinate along the first component, of arbitrary sign, and the share of variance it explains."""

    coordinates: Maps
    explained: Scores


def first_component(features: Features, factor: Features | None = None) -> Component:
    """PCA over positions of the cells of `features` (times `factor`), each channel centred, per sample.

    Works on the K x K or the n x n Gram matrix in float64, whichever is smaller: equal to a singular value
    decomposition, but never n x n for large n. A sample that is not finite gets NaN.
    """
    found = [_one(features[i], None if factor is None else factor[i]) for i in range(len(features))]
    coordinates = torch.stack([line for line, _ in found]).view(len(features), *features.shape[2:])
    return Component(coordinates.to(features.dtype), torch.stack([share for _, share in found]).to(features.dtype))


def aligned(coordinates: Maps, reference: Maps | None = None) -> Maps:
    """The coordinates with the sign that correlates with `reference`; else the one whose extreme is positive.

    The second rule is Seg-Eigen-CAM's: flip where |min| > |max|. It also decides where the correlation is 0.
    """
    flat = coordinates.flatten(1)
    extreme = flat.amax(1) + flat.amin(1)
    sign = torch.where(extreme < 0, -1.0, 1.0)
    if reference is not None:
        other = reference.flatten(1)
        agreement = (flat.double() * (other - other.mean(1, keepdim=True)).double()).sum(1)
        sign = torch.where(agreement == 0, sign, torch.where(agreement < 0, -1.0, 1.0))
    return coordinates * sign.view(-1, *[1] * (coordinates.ndim - 1)).to(coordinates)


def _one(features: Tensor, factor: Tensor | None) -> tuple[Tensor, Tensor]:
    channels, n = features.shape[0], features[0].numel()
    step = max(1, _CHUNK // channels)

    def pieces() -> list[slice]:
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def piece(where: slice) -> Tensor:
        cells = features.flatten(1)[:, where]
        return (cells if factor is None else cells * factor.flatten(1)[:, where]).double()

    mean = sum((piece(where).sum(1) for where in pieces()), torch.zeros(channels, device=features.device)) / n
    if not bool(mean.isfinite().all()):
        nothing = torch.full((n,), torch.nan, dtype=torch.float64, device=features.device)
        return nothing, nothing[0]
    if n <= channels:
        cells = piece(slice(None)) - mean[:, None]
        values, vectors = torch.linalg.eigh(cells.T @ cells)
        line = vectors[:, -1] * values[-1].clamp(min=0).sqrt()
    else:
        gram = torch.zeros(channels, channels, dtype=torch.float64, device=features.device)
        for where in pieces():
            cells = piece(where) - mean[:, None]
            gram.addmm_(cells, cells.T)
        values, vectors = torch.linalg.eigh(gram)
        line = torch.cat([vectors[:, -1] @ (piece(where) - mean[:, None]) for where in pieces()])
    total = values.clamp(min=0).sum()
    return line, values[-1].clamp(min=0) / total
