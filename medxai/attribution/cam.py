"""The class-activation family: a map made of one layer's activation and what the score says about it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from medxai.attribution.evidence import Evidence
from medxai.attribution.passes import Pass, one_pass
from medxai.attribution.status import judge
from medxai.core.layer import Layer
from medxai.core.protocols import Attribution, Traits
from medxai.core.target import Target
from medxai.model.capture import Captured
from medxai.shapes import Features, Images, Maps, Scores, Weights

BLIND = "the map is made of activations alone: it does not depend on the target"


@dataclass(frozen=True, kw_only=True)
class LayerMethod(ABC):
    """A method whose maps lie on one layer: subclasses read them from a pass, `relu` drops evidence against.

    `layer` is "auto", a name that `medxai layers` lists, or a Layer that was looked up before. A method that reads no
    gradients and `resumes` the network at its layer has the pass of a single image noted.
    """

    traits: ClassVar[Traits] = Traits()
    layer: str | Layer = "auto"
    relu: bool = True
    resumes: ClassVar[bool] = False

    @abstractmethod
    def read(self, seen: Pass, captured: Captured) -> tuple[Attribution, ...]:
        """One attribution per target of the pass, at the captured layer."""

    def __call__(self, model: nn.Module, images: Images, target: Target) -> Attribution:
        """The attribution of one target."""
        return self.attribute(model, images, (target,))[0]

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        """One attribution per target, from one clean forward pass, computed in float32 where `images` lie."""
        graph = self.traits.reads == "gradient"
        with one_pass(model, images, targets, (self.layer,), graph=graph, note=self.resumes) as seen:
            return self.read(seen, seen.captured[0])


@dataclass(frozen=True, kw_only=True)
class LayerMap(LayerMethod):
    """A method that needs no more than the evidence of one target: subclasses say what its map is."""

    @abstractmethod
    def map(self, evidence: Evidence) -> Maps:
        """The raw signed map of each sample."""

    def read(self, seen: Pass, captured: Captured) -> tuple[Attribution, ...]:
        found: dict[Any, Any] = {}
        evidence = [Evidence(captured, score, found) for score in seen.scores]
        return tuple(self.explain(one, captured.layer, seen.remarks) for one in evidence)

    def explain(self, evidence: Evidence, layer: Layer, remarks: tuple[str, ...] = ()) -> Attribution:
        """The attribution of the evidence that one target left in `layer`."""
        raw = self.map(evidence)
        scores = evidence.scores.detach()
        maps = raw.relu() if self.relu else raw
        reaction = evidence.reaction if self.traits.reads == "gradient" else None
        if self.traits.reads == "activation":
            evidence.notices.append(BLIND)
        return Attribution(
            maps,
            scores,
            judge(raw, maps, scores, reaction, gross=evidence.gross),
            layer.name,
            (*layer.notices, *remarks, *evidence.notices),
            layer.footprint,
            evidence.details,
        )


@dataclass(frozen=True, kw_only=True)
class WeightedMap(LayerMap):
    """map = sum_k w_k A_k: subclasses say what one channel weighs, per sample or also per position."""

    @abstractmethod
    def weights(self, evidence: Evidence) -> Weights:
        """Weight of each channel, per sample and optionally per position."""

    def map(self, evidence: Evidence) -> Maps:
        weights = self.weights(evidence)
        evidence.gross = weights.flatten(1).abs().amax(1) * evidence.shared(_heaviest)
        return combine(weights, evidence.A)


def _heaviest(A: Features) -> Scores:
    """max_u sum_k |A_k(u)|, per sample."""
    return A.abs().sum(1).flatten(1).amax(1)


def combine(weights: Weights, activation: Features) -> Maps:
    """sum_k w_k A_k for weights (b, k) or (b, k, *m)."""
    if weights.ndim == 2:
        return torch.einsum("bk,bk...->b...", weights, activation)
    return (weights * activation).sum(1)
