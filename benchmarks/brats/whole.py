"""One patient whole: the maps of overlapping patches, read on the scan's own grid and merged there."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

import medxai
from benchmarks.brats.cohort import SIDE, Corner, Patient, crop_recipe, whole_recipe
from benchmarks.brats.scoring import METHOD, TUMOUR
from medxai import Geometry, Provenance, Saliency

Index = NDArray[np.int64]
Box = tuple[slice, slice, slice]


def whole(model: nn.Module, patient: Patient, stride: int = SIDE // 2) -> tuple[Saliency, int]:
    """The merged map of every patch that covers the brain's bounding box, and how many patches there were.

    map(v) = sum_p w_p(v) m_p(v) / sum_p w_p(v) over the patches p that saw voxel v, m_p the raw map of patch p read
    once on the scan's grid, w_p a product of cosine bells that falls to a hundredth at the border of the patch.
    """
    grid = patient.case.image.geometry
    total, weight = torch.zeros(grid.shape), torch.zeros(grid.shape)
    corners, found = list(_corners(patient, stride)), list[Provenance]()
    for corner in track(corners, "explaining the whole brain", transient=True):
        saliency = medxai.explain(model, patient.brain, METHOD, TUMOUR, crop_recipe(corner))
        found.append(saliency.provenance)
        box, part = _voxels(grid, saliency.seen)
        values, window = saliency.on(part), _window(saliency.seen, part)
        window = window.masked_fill(values.isnan(), 0.0)
        total[box] += window * values.nan_to_num(nan=0.0)
        weight[box] += window
    box, field = _hull(grid, weight > 0)
    merged = (total[box] / weight[box]).contiguous()
    return Saliency(merged, field, field, _provenance(patient, found, stride)), len(corners)


def _provenance(patient: Patient, patches: Sequence[Provenance], stride: int) -> Provenance:
    merging = {"transform": "merge of patches", "parameters": {"side": SIDE, "stride": stride, "patches": len(patches)}}
    return replace(
        patches[0],
        recipe_name="brats_whole, patches merged",
        recipe=(*whole_recipe().description, merging),
        input_sha256=patient.case.image.digest,
        score=max(patch.score for patch in patches),
        seconds=sum(patch.seconds for patch in patches),
        notices=(*patches[0].notices, "the score is that of the highest patch"),
    )


def _corners(patient: Patient, stride: int) -> Iterator[Corner]:
    """Patch corners at most `stride` apart, which together cover the bounding box of the brain."""
    along = [_steps(first, last, stride) for first, last in zip(*patient.brain_corners, strict=True)]
    yield from product(along[0], along[1], along[2])


def _steps(first: int, last: int, stride: int) -> Sequence[int]:
    count = -(-(last - first) // stride) + 1
    return [int(v) for v in np.linspace(first, last, count).round()]


def _voxels(grid: Geometry, seen: Geometry) -> tuple[Box, Geometry]:
    """The voxels of `grid` within those of `seen`, as a box and as a grid of their own."""
    ends = np.array(seen.shape3, np.float64)
    index = grid.index(np.array([seen.world(ends * pick - 0.5) for pick in np.ndindex(2, 2, 2)]))
    start = np.maximum(np.ceil(index.min(0)), 0).astype(int)
    stop = np.minimum(np.floor(index.max(0)).astype(int) + 1, grid.shape3)
    return _cut(grid, start, stop)


def _hull(grid: Geometry, reached: Tensor) -> tuple[Box, Geometry]:
    where = torch.nonzero(reached)
    return _cut(grid, where.amin(0).numpy(), where.amax(0).numpy() + 1)


def _cut(grid: Geometry, start: Index, stop: Index) -> tuple[Box, Geometry]:
    a, b, c = (slice(int(first), int(last)) for first, last in zip(start, stop, strict=True))
    return (a, b, c), grid.coarse(start.tolist(), (1.0,) * 3, (stop - start).tolist())


def _window(seen: Geometry, part: Geometry) -> Tensor:
    """A bell over the patch, read at the voxels of `part`."""
    voxels = np.moveaxis(np.indices(part.shape3), 0, -1).astype(np.float64)
    place = (seen.index(part.world(voxels)) + 0.5) / np.array(seen.shape3)
    bell = 0.01 + np.sin(np.pi * place.clip(0, 1)) ** 2
    return torch.from_numpy(bell.prod(-1)).float()
