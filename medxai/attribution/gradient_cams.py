"""CAMs whose weights come from one backward pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from medxai.attribution.cam import LayerMap, WeightedMap
from medxai.attribution.evidence import Evidence
from medxai.core.protocols import Attribution, Traits
from medxai.core.target import Target
from medxai.shapes import Images, Maps, Weights

_CANCELLED = 1e-3


@dataclass(frozen=True, kw_only=True)
class GradCAM(WeightedMap):
    """map = relu(sum_k w_k A_k) with w_k the mean over positions of dy/dA_k (Selvaraju et al. 2017)."""

    def weights(self, evidence: Evidence) -> Weights:
        return evidence.G.flatten(2).mean(2)


@dataclass(frozen=True, kw_only=True)
class GradCAMPlusPlus(WeightedMap):
    """map = relu(sum_k w_k A_k) with w_k = sum_u alpha_k(u) relu(g_k(u)), g = dy/dA (Chattopadhay et al. 2018).

    alpha = g^2 / (2 g^2 + S_k g^3) = 1 / (2 + S_k g), where S_k is the sum of A_k over positions: the paper's closed
    form for the exponential of a score. The map is therefore not invariant to the scale (temperature) of the logits.
    Derived for activations that are never negative; where the denominator is not positive a notice says so, and alpha
    is 0 where it vanishes.
    """

    def weights(self, evidence: Evidence) -> Weights:
        g, mass = evidence.G, positions_summed(evidence.A)
        alpha, crossed = plus_plus_alpha(g.square(), g.pow(3), mass, g > 0)
        evidence.notices.extend(crossed)
        return (alpha * g.relu()).flatten(2).sum(2)


@dataclass(frozen=True, kw_only=True)
class XGradCAM(WeightedMap):
    """map = relu(sum_k w_k A_k) with w_k = sum_u g_k A_k / sum_u A_k, g = dy/dA (Fu et al. 2020).

    The same equation is Respond-CAM (Zhao et al. 2018). Made for activations that are never negative: a channel whose
    activations cancel to less than a thousandth of their size, as all do behind an instance norm, weighs nothing, and
    a notice says so.
    """

    def weights(self, evidence: Evidence) -> Weights:
        A = evidence.A.flatten(2)
        mass, scale = A.sum(2), A.abs().sum(2)
        share = (evidence.G.flatten(2) * A).sum(2)
        cancelled = mass.abs() < _CANCELLED * scale
        if bool(cancelled.any()):
            evidence.notices.append(
                f"negative activations: in {int(cancelled.any(0).sum())} of {A.shape[1]} channels they cancel the "
                "positive ones, so XGrad-CAM cannot weigh these"
            )
        return torch.where(cancelled | (mass == 0), 0.0, share / mass)


@dataclass(frozen=True, kw_only=True)
class LayerCAM(WeightedMap):
    """map = relu(sum_k relu(g_k) A_k) with g = dy/dA at each position (Jiang et al. 2021)."""

    def weights(self, evidence: Evidence) -> Weights:
        return evidence.G.relu()


@dataclass(frozen=True, kw_only=True)
class HiResCAM(WeightedMap):
    """map = relu(sum_k g_k A_k) with g = dy/dA at each position (Draelos and Carin 2020).

    Without `relu` the cells of a layer that only a linear head follows sum to y minus the head's bias.
    """

    def weights(self, evidence: Evidence) -> Weights:
        return evidence.G


@dataclass(frozen=True, kw_only=True)
class ElementwiseGradCAM(LayerMap):
    """map = sum_k relu(g_k A_k) with g = dy/dA at each position: evidence against, in one channel, cancels none for.

    As in pytorch-grad-cam (Gildenblat 2021). It has no negative values, whatever `relu` says.
    """

    def map(self, evidence: Evidence) -> Maps:
        return (evidence.G * evidence.A).relu().sum(1)


@dataclass(frozen=True, kw_only=True)
class ShapleyCAM(WeightedMap):
    """map = relu(sum_k w_k A_k) with w_k the mean over positions of (g - H A / 2)_k (Cai 2025).

    g = dy/dA, H = d2y/dA2: the second-order estimate of the Shapley value of channel k. Equals Grad-CAM where the score
    is piecewise linear in the layer; the paper's own target, ReSTScore, is not.
    """

    traits: ClassVar[Traits] = Traits(cost="1F + 2B")

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            return super().attribute(model, images, targets)

    def weights(self, evidence: Evidence) -> Weights:
        return (evidence.G - evidence.curvature / 2).flatten(2).mean(2)


def positions_summed(features: Tensor) -> Tensor:
    """(b, k, *m) to (b, k, 1, ...): the sum over positions, still broadcastable."""
    return features.sum(tuple(range(2, features.ndim)), keepdim=True)


def plus_plus_alpha(second: Tensor, third: Tensor, mass: Tensor, counted: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """g^2 / (2 g^2 + S g^3) where `counted`, else 0; with a notice where the denominator is not positive."""
    denominator, scale = 2 * second + mass * third, 2 * second + (mass * third).abs()
    safe = counted & (denominator.abs() > 1e-6 * scale)
    alpha = torch.where(safe, second / denominator, 0.0)
    if not bool((counted & (denominator <= 0)).any()):
        return alpha, ()
    return alpha, ("negative activations: the denominator of Grad-CAM++ is not positive everywhere",)


METHODS = (GradCAM, GradCAMPlusPlus, XGradCAM, LayerCAM, HiResCAM, ElementwiseGradCAM, ShapleyCAM)
