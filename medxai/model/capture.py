"""Record what a layer emitted, and the gradient that reaches it."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from medxai.errors import DisconnectedError, LayerError, LayerNotFoundError
from medxai.shapes import Features, Scores


@dataclass(slots=True)
class Captured:
    """The output of one layer in one forward pass; the autograd graph begins there."""

    layer: str
    _outputs: list[Tensor] = field(default_factory=list)

    @property
    def activation(self) -> Features:
        if not self._outputs:
            raise LayerError(
                f"Layer {self.layer!r} did not run in this forward pass.",
                remedy="Pick a layer that the model uses for this input; `medxai layers` lists them.",
            )
        return self._outputs[0]

    def gradient(self, scores: Scores) -> Features:
        """d(sum of scores) / d(activation): per sample, because no layer mixes samples in eval mode."""
        activation = self.activation
        gradient = None
        if scores.requires_grad:
            ones = torch.ones_like(scores)
            (gradient,) = torch.autograd.grad(scores, activation, ones, retain_graph=True, allow_unused=True)
        if gradient is None:
            raise DisconnectedError(
                f"The target does not depend on layer {self.layer!r} by any differentiable path.",
                remedy="Pick a layer on the path to the target, and a model that does not detach on the way.",
            )
        return gradient


@contextmanager
def capture(network: nn.Module, layer: str) -> Iterator[Captured]:
    """Hook `layer` for the duration of the block: what runs before it records no graph, what follows it does."""
    found = Captured(layer)

    def record(_module: nn.Module, _args: tuple[object, ...], output: object) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim < 3:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise LayerError(
                f"Layer {layer!r} emits nothing that has channels and positions.",
                expected="a tensor (batch, channels, *space)",
                found=f"{shape}",
                remedy="Pick a convolutional layer or block; `medxai layers` lists them.",
            )
        if found._outputs:
            block = layer.rpartition(".")[0]
            raise LayerError(
                f"Layer {layer!r} is called more than once in one forward pass, so its map would be ambiguous.",
                remedy=f"Pick the block that contains it ({block!r})."
                if block
                else "No block contains it: pick another layer; `medxai layers` lists them.",
            )
        start = output.detach().requires_grad_()
        found._outputs.append(start)
        torch.set_grad_enabled(True)
        return start.clone()  # a later in-place operation may not touch what was recorded

    with torch.no_grad():  # also ends the gradient mode that `record` switches on
        handle = submodule(network, layer).register_forward_hook(record)
        try:
            yield found
        finally:
            handle.remove()


def submodule(network: nn.Module, name: str) -> nn.Module:
    """The module of that name; an unknown name is answered with its nearest neighbours."""
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if name in modules and name:
        return modules[name]
    near = difflib.get_close_matches(name, [known for known in modules if known], n=5, cutoff=0.0)
    raise LayerNotFoundError(
        f"The model has no layer named {name!r}.",
        remedy=f"Did you mean one of {near}?" if near else "It has no layers at all: it is a single module.",
    )
