"""Targets of segmentations: the logits of one class over a region, a voxel or a connected component."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medxai.core.target.protocol import at, describe
from medxai.errors import TargetError
from medxai.shapes import Scores


@dataclass(frozen=True, eq=False)
class RegionScore:
    """The sum of one class's voxel logits over a region of a segmentation (batch, classes, *space).

    The region is `region` where given (a bool mask on the output grid), else the voxels where the class wins; in an
    output of one class, those with a positive logit. Source: Vinogradova et al. 2020 (Seg-Grad-CAM).
    """

    index: int
    region: Tensor | None = None

    def __post_init__(self) -> None:
        if self.region is not None and self.region.dtype != torch.bool:
            raise TargetError(
                "A region is a mask: voxels are in it or not.",
                expected="a bool tensor",
                found=f"{self.region.dtype}",
                remedy="Say which values belong to it, as labels == 1 or labels > 0.",
            )

    def __call__(self, output: Any) -> Scores:
        voxels = _voxels(output, self.index, self)
        region = _won(output, self.index) if self.region is None else self.region.to(voxels.device)
        if tuple(region.shape[-(voxels.ndim - 1) :]) != tuple(voxels.shape[1:]):
            raise TargetError(
                "The region is on another grid than the output.",
                expected=f"{tuple(voxels.shape[1:])}",
                found=f"{tuple(region.shape)}",
            )
        return _sum_over(voxels, region)

    def settled(self, output: Any) -> "RegionScore":
        """With the region where the class wins now; raises TargetError where `output` is no segmentation."""
        self(output)
        return self if self.region is not None else RegionScore(self.index, _won(output, self.index))

    def __repr__(self) -> str:
        if self.region is None:
            return f"RegionScore(index={self.index}, region=predicted)"
        digest = hashlib.sha256(self.region.cpu().contiguous().numpy().tobytes()).hexdigest()
        return f"RegionScore(index={self.index}, region=given, sha256 {digest[:16]})"


@dataclass(frozen=True, slots=True)
class VoxelScore:
    """The logit of one class at one voxel of a segmentation; `voxel` counts on the output grid."""

    index: int
    voxel: tuple[int, ...]

    def __call__(self, output: Any) -> Scores:
        voxels = _voxels(output, self.index, self)
        return at(voxels, _place(output, self.voxel, self))


@dataclass(frozen=True, slots=True)
class ComponentScore:
    """The sum of one class's voxel logits over the connected component of its prediction that contains `voxel`.

    Voxels are connected by faces. Raises TargetError where the class does not win at `voxel`.
    """

    index: int
    voxel: tuple[int, ...]

    def __call__(self, output: Any) -> Scores:
        return _sum_over(_voxels(output, self.index, self), self._component(output))

    def settled(self, output: Any) -> RegionScore:
        """The component as a region."""
        _voxels(output, self.index, self)
        return RegionScore(self.index, self._component(output))

    def _component(self, output: Tensor) -> Tensor:
        from scipy.ndimage import label

        place = _place(output, self.voxel, self)
        parts = []
        for won in _won(output, self.index).cpu().numpy():
            labels, _ = label(won)
            if not labels[place]:
                raise TargetError(
                    f"Class {self.index} is not predicted at voxel {self.voxel}.",
                    expected="a voxel of the component to explain",
                    remedy=f"Its nearest one is {_nearest(won, self.voxel)}." if won.any() else "It wins nowhere.",
                )
            parts.append(torch.from_numpy(labels == labels[place]))
        return torch.stack(parts).to(output.device)


def _voxels(output: Any, index: int, target: object) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim < 4 or not 0 <= index < output.shape[1]:
        raise TargetError(
            f"{type(target).__name__}(index={index}) explains a segmentation.",
            expected=f"an output (batch, classes, *space) with more than {index} classes",
            found=describe(output),
        )
    return output[:, index]


def _won(output: Tensor, index: int) -> Tensor:
    return output[:, 0] > 0 if output.shape[1] == 1 else output.argmax(1) == index


def _sum_over(voxels: Tensor, region: Tensor) -> Tensor:
    return (voxels * region.to(voxels.dtype)).flatten(1).sum(1)


def _place(output: Tensor, voxel: tuple[int, ...], target: object) -> tuple[int, ...]:
    grid = tuple(output.shape[2:])
    if len(voxel) != len(grid) or not all(0 <= v < n for v, n in zip(voxel, grid, strict=True)):
        raise TargetError(f"{target} names no voxel.", expected=f"a voxel of the output grid {grid}", found=f"{voxel}")
    return voxel


def _nearest(won: np.ndarray, voxel: tuple[int, ...]) -> tuple[int, ...]:
    places = np.argwhere(won)
    return tuple(int(v) for v in places[((places - np.array(voxel)) ** 2).sum(1).argmin()])
