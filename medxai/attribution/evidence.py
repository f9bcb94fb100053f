"""All that a class-activation method may look at: one layer of one pass, and one target."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch

from medxai.attribution.joined import Joined
from medxai.model.capture import Captured
from medxai.shapes import Features, Scores

T = TypeVar("T")


class Evidence:
    """Activation and derivatives of one layer; a backward pass runs only where something asks for it."""

    def __init__(self, captured: Captured | Joined, scores: Scores, found: dict[Any, Any] | None = None) -> None:
        self._captured, self.scores = captured, scores
        self._found: dict[Any, Any] = {} if found is None else found
        self.details: dict[str, torch.Tensor] = {}
        self.notices: list[str] = []
        self.gross: Scores | None = None

    @property
    def output(self) -> torch.Tensor:
        """What the layer emitted, in its own layout: where the graph of the score begins."""
        return self._captured.output

    @cached_property
    def A(self) -> Features:
        """The layer's activation."""
        return self._captured.activation.detach()

    def shared(self, compute: Callable[[Features], T]) -> T:
        """compute(A), done once for all targets of a pass: for what the activation alone decides."""
        if compute not in self._found:
            self._found[compute] = compute(self.A)
        known: T = self._found[compute]
        return known

    @cached_property
    def G(self) -> Features:
        """dy/dA, the gradient of the score."""
        return self._captured.gradient(self.scores)

    @cached_property
    def curvature(self) -> Features:
        """H A, the second derivative d2y/dA2 of the score along the activation; zero where the score is linear in A."""
        slope = self._captured.gradient(self.scores, differentiable=True)
        with torch.enable_grad():
            along = (slope * self.A).flatten(1).sum(1)
        return self._captured.gradient(along) if along.requires_grad else torch.zeros_like(self.A)

    @property
    def reaction(self) -> Scores:
        """max |G| * sum |A|: an upper bound of sum |G A|, per sample."""
        return self.G.flatten(1).abs().amax(1) * self.shared(_mass)


def _mass(A: Features) -> Scores:
    return A.flatten(1).abs().sum(1)
