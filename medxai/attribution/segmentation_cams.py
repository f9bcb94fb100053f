"""CAMs for segmentations: Seg-Grad-CAM is GradCAM of a RegionScore; here is what lies between it and HiResCAM."""

from dataclasses import dataclass
from typing import Literal

import torch

from medxai.attribution.cam import WeightedMap
from medxai.attribution.evidence import Evidence
from medxai.errors import UsageError
from medxai.shapes import Features, Weights

Pool = Literal["max", "mean"]


@dataclass(frozen=True, kw_only=True)
class SegXResCAM(WeightedMap):
    """map = relu(sum_k up(pool(g_k)) A_k), g = dy/dA: gradients pooled over windows of cells (Hasany et al. 2023).

    `window` counts cells of the layer, one number or one per axis; the last window of an axis may be smaller. Each cell
    weighs what its window pools to. A window of 1 is HiResCAM; one window over the whole layer, with the mean, is
    Seg-Grad-CAM, so region detail and smoothness can be chosen between. The default of 2 is ours; the paper pools by
    its maximum.
    """

    window: int | tuple[int, ...] = 2
    pool: Pool = "max"

    def weights(self, evidence: Evidence) -> Weights:
        axes = evidence.G.ndim - 2
        window = (self.window,) * axes if isinstance(self.window, int) else self.window
        if len(window) != axes or min(window) < 1:
            raise UsageError(
                "SegXResCAM pools over windows of cells.",
                expected=f"a window of at least one cell along each of {axes} axes",
                found=f"{self.window}",
            )
        pooled = evidence.G
        for axis, cells in enumerate(window, 2):
            pooled = _pooled(pooled, axis, cells, self.pool)
        return pooled


def _pooled(g: Features, axis: int, cells: int, pool: Pool) -> Features:
    """Box windows are separable, for the mean as for the maximum."""
    windows = torch.split(g, cells, axis)
    reduced = [w.amax(axis, keepdim=True) if pool == "max" else w.mean(axis, keepdim=True) for w in windows]
    return torch.cat([r.expand_as(w) for r, w in zip(reduced, windows, strict=True)], axis)


METHODS = (SegXResCAM,)
