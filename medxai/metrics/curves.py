"""A curve of scores over the true fraction of the field that was removed or restored, both ends included."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from medxai.errors import InputError
from medxai.metrics.imputation import Baseline, default_baseline
from medxai.metrics.spec import finite
from medxai.metrics.units import Partition, default_partition


def fine_levels(count: int = 50) -> tuple[float, ...]:
    """0, half of `count` levels evenly in the logarithm from 0.1 % to 10 %, the others evenly above, up to 1."""
    half = count // 2
    low, high = np.geomspace(0.001, 0.1, half), np.linspace(0.1, 1, count - half + 1)
    return (0.0, *map(float, low), *map(float, high[1:]))


def even_levels(count: int) -> tuple[float, ...]:
    """0, 1 / count, ..., 1."""
    return tuple(i / count for i in range(count + 1))


@dataclass(frozen=True)
class Perturbation:
    """How a curve is taken: what is removed at once, what stands in its place, and after which fractions one asks."""

    partition: Partition = default_partition
    baseline: Baseline = default_baseline
    levels: tuple[float, ...] = fine_levels()

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or min(self.levels) < 0 or max(self.levels) > 1:
            raise InputError("Levels are fractions.", expected="two or more from 0 to 1", found=f"{self.levels}")


DEFAULT = Perturbation()


@dataclass(frozen=True, eq=False)
class Curve:
    """Scores over the fraction of the field's voxels that has been removed (or restored)."""

    fraction: Float64[Tensor, " n"]
    score: Float64[Tensor, " n"]

    @property
    def area(self) -> float:
        """The integral by trapezoids over the true fraction: of scores in [0, 1] it lies there too."""
        return finite(float(torch.trapezoid(self.score, self.fraction)))
