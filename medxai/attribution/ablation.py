"""Ablation-CAM: what the score loses where one channel of the layer falls silent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from medxai.attribution.masking import Asked, Sweeping, Swept, moved
from medxai.core.layer import Layer
from medxai.core.protocols import Traits
from medxai.shapes import Features

Silence = Literal["zero", "minimum", "mean"]
_EPS = 1e-8
_SILENT: dict[Silence, Callable[[Tensor], Tensor]] = {
    "zero": lambda cells: torch.zeros_like(cells[..., :1]),
    "minimum": lambda cells: cells.amin(-1, keepdim=True),
    "mean": lambda cells: cells.mean(-1, keepdim=True),
}


@dataclass(frozen=True, kw_only=True)
class AblationCAM(Sweeping):
    """map = relu(sum_k w_k A_k) with w_k = (y - y_k) / |y|, y_k the score without channel k (Ramaswamy et al. 2020).

    `value` is what a silenced channel holds at every position: 0, or its own minimum or mean over positions. Division
    by |y| and not, as published, by y keeps the sign of the evidence where the score is negative. Only what follows the
    layer runs again; a channel that already holds `value` everywhere is not run and weighs 0.
    """

    traits: ClassVar[Traits] = Traits(reads="score", cost="1F + K suffix F")
    resumes: ClassVar[bool] = True
    value: Silence = "zero"

    def sweep(self, asked: Asked, A: Features, layer: Layer) -> Swept:
        run = asked.seen.resumable(layer, [asked.sample])
        silent = _SILENT[self.value](A.flatten(2))
        live = (A.flatten(2) != silent).any(2)[0].nonzero()[:, 0]
        whole = asked.scores(run.output, 1)
        scores = whole.repeat(1, A.shape[1])
        for channels in self.portions(live, max(A.numel(), asked.image.numel())):
            changed = A.repeat(len(channels), *[1] * (A.ndim - 1))
            changed.flatten(2)[torch.arange(len(channels)), channels] = silent[0, channels]
            output = run(layer.layout.write(changed, run.activation))
            scores[:, channels] = asked.scores(output, len(channels))
        loss = whole - scores
        scale = whole.abs() + _EPS * loss.abs().amax(1, keepdim=True)
        weights = torch.where(scale == 0, 0.0, loss / scale)
        notices = (f"every ablation ran the whole network: {run.full}",) if run.full else ()
        return Swept(weights, moved(scores, whole[:, 0]), {"ablations": float(len(live))}, notices)


METHODS = (AblationCAM,)
