"""The noise-free bottleneck: layer integrated gradients, from what the noise is on average to the features."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medxai.attribution.bottleneck.statistics import FeatureStatistics, noise_of
from medxai.attribution.cam import LayerMap
from medxai.attribution.evidence import Evidence
from medxai.attribution.masking import Asked
from medxai.attribution.passes import Pass
from medxai.core.protocols import Attribution, Traits
from medxai.model.capture import Captured
from medxai.shapes import Features, Maps, Scores


class PathEvidence(Evidence):
    """Evidence of a way: `A` is R - mu, `G` the mean gradient between the two, and mu alone scores `start`."""

    def __init__(self, captured: Captured, scores: Scores, way: Features, slope: Features, start: Scores) -> None:
        super().__init__(captured, scores)
        self.A, self.G, self.start = way, slope, start


@dataclass(frozen=True, kw_only=True)
class LayerIntegratedGradients(LayerMap):
    """map = sum_k (R_k - mu_k) * integral over lambda in [0, 1] of dy/dZ_k at Z = mu + lambda (R - mu).

    What a bottleneck becomes when all gates open as one and the noise is replaced by its mean mu, that of `statistics`
    or else 0: nothing is searched, nothing is drawn, and the map counts parts of the score, not bits. With relu=False
    it adds up to y(R) - y(mu), but for the detail "unexplained", which more `steps` make smaller. The integral is a
    Gauss-Legendre sum. `voxels` bounds what is in the network at a time. Sources: Sundararajan et al. 2017; Zhu et al.
    2025, Narrowing information bottleneck theory (whose integral is a plain mean).
    """

    traits: ClassVar[Traits] = Traits(cost="1F + n (suffix F + B)")
    steps: int = 10
    statistics: FeatureStatistics | None = None
    voxels: int = 2**21

    def map(self, evidence: Evidence) -> Maps:
        raw: Maps = (evidence.G * evidence.A).sum(1)
        if isinstance(evidence, PathEvidence):
            evidence.details["start score"] = evidence.start
            evidence.details["unexplained"] = evidence.scores.detach() - evidence.start - raw.flatten(1).sum(1)
        return raw

    def read(self, seen: Pass, captured: Captured) -> tuple[Attribution, ...]:
        walked = [self._walked(Asked(seen, sample, seen.network), captured) for sample in range(len(seen.images))]
        way, slopes, starts = (torch.cat(parts, 1) for parts in zip(*walked, strict=True))
        return tuple(
            self.explain(PathEvidence(captured, score, way[0], slope, start), captured.layer, seen.remarks)
            for score, slope, start in zip(seen.scores, slopes, starts, strict=True)
        )

    def _walked(self, asked: Asked, captured: Captured) -> tuple[Tensor, Tensor, Tensor]:
        """One image: R - mu (1, 1, k, *m), each target's mean gradient (t, 1, k, *m) and its score of mu (t, 1)."""
        layer, held = captured.layer, asked.seen.resumable(captured.layer, [asked.sample])
        features = captured.activation[asked.sample : asked.sample + 1].detach()
        statistics = noise_of(features, self.statistics, layer)
        way = features - statistics.mean
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        plan = features.new_tensor([[0.0, *(1 + nodes) / 2], [0.0, *weights / 2]])  # mu itself weighs nothing
        plan = plan.reshape(2, -1, *[1] * (features.ndim - 1))
        slope, starts = way.new_zeros(()), list[Tensor]()
        room = max(1, self.voxels // max(prod(features.shape), prod(asked.image.shape)))
        for some, weight in torch.split(plan, room, 1):
            between = layer.layout.write(statistics.mean + some * way, held.activation)
            there = Captured(layer, [between.requires_grad_()])
            with torch.enable_grad():
                answers = asked.scores(held(there.output), len(some)).unbind()
            slope = slope + torch.stack([(weight * there.gradient(one)).sum(0, keepdim=True) for one in answers])
            starts.append(torch.stack(answers).detach())
        return way[None], slope, torch.cat(starts, 1)[:, :1]


METHODS = (LayerIntegratedGradients,)
