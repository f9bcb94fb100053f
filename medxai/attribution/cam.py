"""The class-activation family: a weighted sum of one layer's channels, map = sum_k w_k A_k."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from medxai.attribution.status import judge, saturation
from medxai.core.protocols import Attribution
from medxai.core.target import Target
from medxai.model.capture import Captured, capture
from medxai.model.guard import untouched
from medxai.model.layers import resolve_layer
from medxai.model.trace import trace
from medxai.shapes import Features, Images, Maps, Scores, Weights


class Evidence:
    """All that a CAM may look at; the backward pass runs only if `G` is asked for."""

    def __init__(self, captured: Captured, scores: Scores) -> None:
        self._captured, self.scores = captured, scores

    @cached_property
    def A(self) -> Features:
        """The layer's activation."""
        return self._captured.activation.detach()

    @cached_property
    def G(self) -> Features:
        """The gradient of the score with respect to the activation."""
        return self._captured.gradient(self.scores)

    @property
    def reaction(self) -> Scores:
        """max |G| * sum |A|: an upper bound of sum |G A|, per sample."""
        steepest: Scores = torch.linalg.vector_norm(self.G.flatten(1), ord=torch.inf, dim=1)
        mass: Scores = torch.linalg.vector_norm(self.A.flatten(1), ord=1, dim=1)
        return steepest * mass


@dataclass(frozen=True, kw_only=True)
class CAM(ABC):
    """A class-activation method: subclasses say what one channel weighs, `relu` whether negative evidence is kept."""

    layer: str = "auto"
    relu: bool = True

    @abstractmethod
    def weights(self, evidence: Evidence) -> Weights:
        """Weight of each channel, per sample and optionally per position."""

    def __call__(self, model: nn.Module, images: Images, target: Target) -> Attribution:
        """The attribution of one target."""
        return self.attribute(model, images, (target,))[0]

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        """One attribution per target, from one forward pass, computed in float32 where `images` lie."""
        with untouched(model, images.device) as network:
            images = images.detach().clone() if images.is_inference() else images.detach()
            images = images.float()
            layer, notices = self.layer, tuple[str, ...]()
            if layer == "auto":
                layer, notices = resolve_layer(trace(network, tuple(images.shape)), layer)
            with capture(network, layer) as captured:
                output = network(images)
            with torch.enable_grad():
                scores = [target(output) for target in targets]
            notices = (*notices, *saturation(output, scores))
            return tuple(self._explain(Evidence(captured, score), layer, notices) for score in scores)

    def _explain(self, evidence: Evidence, layer: str, notices: tuple[str, ...]) -> Attribution:
        raw = _combine(self.weights(evidence), evidence.A)
        scores = evidence.scores.detach()
        maps = raw.relu() if self.relu else raw
        return Attribution(maps, scores, judge(raw, maps, scores, evidence.reaction), layer, notices)


def _combine(weights: Weights, activation: Features) -> Maps:
    if weights.ndim == 2:
        return torch.einsum("bk,bk...->b...", weights, activation)
    return (weights * activation).sum(1)
