"""What is removed at once: a voxel, a cube of some millimetres, a supervoxel."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medxai.errors import InputError
from medxai.metrics.scene import Scene

Labels = Int[Tensor, "*s"]
Removed = Bool[Tensor, "n *s"]
Chosen = Bool[Tensor, "n u"]


@dataclass(frozen=True, eq=False)
class Units:
    """The field cut into units: `labels` holds the unit of each voxel, `count` where the voxel belongs to none."""

    labels: Labels
    count: int

    @property
    def sizes(self) -> Float[Tensor, " u"]:
        """Voxels of each unit."""
        return torch.bincount(self.labels.flatten(), minlength=self.count + 1)[: self.count].double()

    def mean(self, values: Float[Tensor, "*s"]) -> Float[Tensor, " u"]:
        """The mean of `values` in each unit, double precision."""
        return self.sum(values) / self.sizes

    def sum(self, values: Float[Tensor, "*s"]) -> Float[Tensor, " u"]:
        """The sum of `values` in each unit, double precision."""
        inside = values.masked_fill(self.labels == self.count, 0).double().flatten()
        total = torch.zeros(self.count + 1, dtype=torch.float64)
        return total.index_add(0, self.labels.flatten().cpu(), inside.cpu())[: self.count]

    def voxels(self, chosen: Chosen) -> Removed:
        """The voxels of the chosen units, one mask per row."""
        none = torch.zeros(len(chosen), 1, dtype=torch.bool)
        return torch.cat([chosen, none], 1)[:, self.labels]


Partition = Callable[[Scene], Units]


@dataclass(frozen=True)
class Voxels:
    """Every voxel of the field is a unit."""

    def __call__(self, scene: Scene) -> Units:
        return _numbered(torch.arange(scene.field.numel()).reshape(scene.shape), scene)


@dataclass(frozen=True)
class Cubes:
    """Cubes (2D: squares) of the given side, cut where they meet the edge of the field.

    A side in mm is followed on every axis by its own spacing. Raises GeometryError where millimetres are asked of an
    image without them.
    """

    side: float = 8.0
    unit: Literal["mm", "voxel"] = "mm"

    def __post_init__(self) -> None:
        if not self.side > 0:
            raise InputError("A cube has a side.", expected="a positive length", found=f"{self.side}")

    def __call__(self, scene: Scene) -> Units:
        steps = scene.spacing_mm if self.unit == "mm" else (1.0,) * len(scene.shape)
        labels = torch.zeros(scene.shape, dtype=torch.long)
        for axis, (size, step) in enumerate(zip(scene.shape, steps, strict=True)):
            block = ((torch.arange(size, dtype=torch.float64) + 0.5) * step / self.side).long()
            along = block.reshape([-1 if a == axis else 1 for a in range(labels.ndim)])
            labels = labels * (int(block.max()) + 1) + along
        return _numbered(labels, scene)


@dataclass(frozen=True)
class Supervoxels:
    """About `count` compact regions of similar intensity (SLIC, Achanta et al. 2012), formed within the field."""

    count: int = 200
    compactness: float = 0.1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError("Supervoxels are counted.", expected="one or more", found=f"{self.count}")

    def __call__(self, scene: Scene) -> Units:
        from skimage.segmentation import slic

        image = scene.image.detach().cpu().double()
        low, high = image.amin(), image.amax()
        scaled = (image - low) / (high - low) if bool(high > low) else torch.zeros_like(image)
        found = slic(
            scaled.numpy(),
            n_segments=self.count,
            compactness=self.compactness,
            spacing=scene.spacing,
            mask=None if bool(scene.field.all()) else scene.field.cpu().numpy(),
            start_label=1,
            channel_axis=0,
        )
        return _numbered(torch.from_numpy(np.ascontiguousarray(found)).long(), scene)


def default_partition(scene: Scene) -> Units:
    """Cubes of 8 mm, or of a sixteenth of the longest side where the voxel size is unknown."""
    cubes = Cubes(8.0) if scene.spacing is not None else Cubes(max(1, max(scene.shape) / 16), "voxel")
    return cubes(scene)


def in_chunks(chosen: Iterable[Bool[Tensor, " u"]], size: int) -> Iterator[Chosen]:
    """Rows gathered into batches of `size`."""
    rows: list[Tensor] = []
    for row in chosen:
        rows.append(row)
        if len(rows) == size:
            yield torch.stack(rows)
            rows = []
    if rows:
        yield torch.stack(rows)


def _numbered(labels: Labels, scene: Scene) -> Units:
    field = scene.field.cpu()
    if not bool(field.any()):
        raise InputError("There is nothing to perturb.", found="a field without voxels")
    kept, inverse = torch.unique(labels[field], return_inverse=True)
    numbered = torch.full(labels.shape, len(kept))
    numbered[field] = inverse
    return Units(numbered, len(kept))
