"""CAMs that read what a layer varies in: principal components and statistics of its cells."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from medxai.attribution.cam import LayerMap, WeightedMap
from medxai.attribution.evidence import Evidence
from medxai.attribution.principal import Component, aligned, first_component
from medxai.core.protocols import Traits
from medxai.shapes import Features, Maps, Weights

_ENOUGH = 0.3


@dataclass(frozen=True, kw_only=True)
class EigenCAM(LayerMap):
    """The coordinate of each cell along the first principal component of A (Muhammad and Yeasin 2020).

    Each channel is centred over positions; the sign is the one that correlates with mean_k |A_k|. Class-agnostic.
    `details["explained_variance_ratio"]` says how much of the layer the map stands for.
    """

    traits: ClassVar[Traits] = Traits(reads="activation", cost="1F")
    relu: bool = False

    def map(self, evidence: Evidence) -> Maps:
        found = _reported(evidence, evidence.shared(first_component))
        return aligned(found, evidence.A.abs().mean(1))


@dataclass(frozen=True, kw_only=True)
class EigenGradCAM(LayerMap):
    """The coordinate of each cell along the first principal component of g * A, g = dy/dA (pytorch-grad-cam).

    The sign is the one that correlates with HiResCAM, sum_k g_k A_k. Else as EigenCAM, but of one class.
    """

    traits: ClassVar[Traits] = Traits(magnitude=True)
    relu: bool = False

    def map(self, evidence: Evidence) -> Maps:
        found = _reported(evidence, first_component(evidence.A, evidence.G))
        return aligned(found, (evidence.G * evidence.A).sum(1))


@dataclass(frozen=True, kw_only=True)
class SegEigenCAM(LayerMap):
    """The coordinate of each cell along the first principal component of |g| * A (Chung and Ying 2025).

    g = dy/dA; the sign is flipped where |min| > |max|, as the paper does. Made for segmentation: explain a RegionScore.
    """

    traits: ClassVar[Traits] = Traits(magnitude=True)
    relu: bool = False

    def map(self, evidence: Evidence) -> Maps:
        return aligned(_reported(evidence, first_component(evidence.A, evidence.G.abs())))


@dataclass(frozen=True, kw_only=True)
class FEM(WeightedMap):
    """map = sum_k w_k A_k with w_k the share of positions where A_k exceeds mean + `deviations` * standard deviation.

    Mean and deviation of channel k over positions (Fuad et al. 2020). Class-agnostic.
    """

    traits: ClassVar[Traits] = Traits(reads="activation", cost="1F")
    relu: bool = False
    deviations: float = 2.0

    def weights(self, evidence: Evidence) -> Weights:
        return evidence.shared(self._extremes)

    def _extremes(self, A: Features) -> Weights:
        cells = A.flatten(2)
        deviation, mean = torch.std_mean(cells, 2, correction=0, keepdim=True)
        return (mean + self.deviations * deviation < cells).float().mean(2)


def _reported(evidence: Evidence, found: Component) -> Maps:
    evidence.details["explained_variance_ratio"] = found.explained
    if bool((found.explained < _ENOUGH).any()):
        lowest = float(found.explained[found.explained < _ENOUGH].min())
        evidence.notices.append(
            f"the first component explains {lowest:.0%} of the layer's variance: the map shows a small part of it"
        )
    return found.coordinates


METHODS = (EigenCAM, EigenGradCAM, SegEigenCAM, FEM)
