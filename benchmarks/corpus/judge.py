"""What an input is, and whether the answer of a reader to it is right."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Verdict = bool | None
"""Right, wrong, or unknown."""
Judge = Callable[[Array, Array], Verdict]

LARGEST = 10**6
RIGHT_MM = 0.1


@dataclass(frozen=True, eq=False)
class Input:
    """A path to read; `judge(voxels, affine)` says whether an answer is right.

    With `like_medxai`, the truth is the answer of medxai, which tests/io/dicom prove by closed forms.
    """

    group: str
    name: str
    path: Path
    judge: Judge
    like_medxai: bool = False


def unknown(voxels: Array, affine: Array) -> Verdict:  # noqa: ARG001
    """No truth is known."""
    return None


def by_address(grid: Array) -> Judge:
    """Whether every voxel of an address phantom (planes of 7 x 5) lies where the true grid says, none twice."""

    def judge(voxels: Array, affine: Array) -> Verdict:
        stack = voxels if voxels.ndim == 3 else voxels[..., None]
        if stack.size > LARGEST or not np.isfinite(stack).all():
            return False
        codes = np.rint(stack).astype(np.int64)
        unique = len(np.unique(codes)) == codes.size and codes.size % (7 * 5) == 0
        address = np.stack([codes % 16, codes // 16 % 16, codes // 256], -1)
        truth = address @ grid[:3, :3].T + grid[:3, 3]
        index = np.stack(np.meshgrid(*[np.arange(n) for n in codes.shape], indexing="ij"), -1)
        said = index @ affine[:3, :3].T + affine[:3, 3]
        exact = np.abs(stack - codes).max() < 1e-3
        return bool(unique and exact and np.linalg.norm(said - truth, axis=-1).max() < RIGHT_MM)

    return judge
