"""Attribution methods whose merit is known: the gradient, gradient times image, and one that never asks the network."""

from dataclasses import dataclass

import torch

from medxai.core.protocols import Attribution
from medxai.core.saliency import Status


def told(maps, scores):
    return Attribution(maps, scores, tuple(Status("" if bool(m.any()) else "zero map") for m in maps), "")


@dataclass(frozen=True)
class Gradient:
    """sum over channels of dy/dx, times the image where `times_image`."""

    times_image: bool = False

    def attribute(self, model, images, targets):
        found = []
        for target in targets:
            with torch.enable_grad():
                leaf = images.detach().clone().requires_grad_()
                was, _ = model.training, model.eval()
                scores = target(model(leaf))
                (gradient,) = torch.autograd.grad(scores.sum(), leaf)
                model.train(was)
            values = gradient * images if self.times_image else gradient
            found.append(told(values.sum(1), scores.detach()))
        return tuple(found)


@dataclass(frozen=True)
class Edges:
    """|image - its mean|: looks like a map, knows nothing of the network."""

    def attribute(self, model, images, targets):
        away = (images - images.flatten(1).mean(1).reshape(-1, *[1] * (images.ndim - 1))).abs().sum(1)
        return tuple(told(away, torch.zeros(len(images))) for _ in targets)


@dataclass(frozen=True)
class Nothing:
    """A zero map, honestly called degenerate."""

    def attribute(self, model, images, targets):
        return tuple(told(torch.zeros_like(images[:, 0]), torch.zeros(len(images))) for _ in targets)
