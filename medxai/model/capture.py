"""Record what a layer emitted, and the gradient that reaches it."""

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from medxai.core.layer import Layer
from medxai.errors import DisconnectedError, LayerError, LayerNotFoundError
from medxai.shapes import Features, Scores


@dataclass(slots=True)
class Captured:
    """The output of one layer in one forward pass; the autograd graph begins there, or at a captured layer before."""

    layer: Layer
    _outputs: list[Tensor] = field(default_factory=list)

    @property
    def activation(self) -> Features:
        """The output as a map (batch, channels, *space)."""
        return self.layer.layout.read(self.output)

    @property
    def output(self) -> Tensor:
        """What the layer emitted, in its own layout."""
        if not self._outputs:
            raise LayerError(
                f"Layer {self.layer.name!r} did not run in this forward pass.",
                remedy="Pick a layer that the model uses for this input; `medxai layers` lists them.",
                code="X15",
            )
        return self._outputs[0]

    def gradient(self, scores: Scores, *, differentiable: bool = False) -> Features:
        """d(sum of scores) / d(activation): per sample, because no layer mixes samples in eval mode.

        `differentiable` keeps the graph of the gradient itself, for second derivatives.
        """
        output, gradient = self.output, None
        if scores.requires_grad:
            (gradient,) = torch.autograd.grad(
                scores,
                output,
                torch.ones_like(scores),
                retain_graph=True,
                create_graph=differentiable,
                allow_unused=True,
            )
        if gradient is None:
            raise DisconnectedError(
                f"The target does not depend on layer {self.layer.name!r} by any differentiable path.",
                remedy="Pick a layer on the path to the target, and a model that does not detach on the way.",
            )
        with torch.set_grad_enabled(differentiable):
            return self.layer.layout.read(gradient)


@contextmanager
def capture(network: nn.Module, layer: str | Layer) -> Iterator[Captured]:
    """Hook `layer` for the duration of the block: what runs before it records no graph, what follows it does.

    Several captures may be open at once; then the graph begins at the first of their layers. The layer "" is the image.
    """
    found = Captured(layer if isinstance(layer, Layer) else Layer(layer))

    def record(output: Tensor) -> Tensor:
        start = output if output.requires_grad else output.detach().requires_grad_()
        found._outputs.append(start)
        torch.set_grad_enabled(True)
        return start.clone()  # a later in-place operation may not touch what was recorded

    with torch.no_grad():  # also ends the gradient mode that `record` switches on
        handle = _hooked(network, found, record)
        try:
            yield found
        finally:
            handle.remove()


def _hooked(network: nn.Module, found: Captured, record: Callable[[Tensor], Tensor]) -> RemovableHandle:
    name = found.layer.name
    if not name:

        def entering(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (record(args[0]), *args[1:])

        return network.register_forward_pre_hook(entering)

    def leaving(_module: nn.Module, _args: tuple[object, ...], output: object) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim < 3:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise LayerError(
                f"Layer {name!r} emits nothing that has channels and positions.",
                expected="a tensor (batch, channels, *space)",
                found=f"{shape}",
                remedy="Pick a convolutional layer or block; `medxai layers` lists them.",
                code="X15",
            )
        if found._outputs:
            block = name.rpartition(".")[0]
            raise LayerError(
                f"Layer {name!r} is called more than once in one forward pass, so its map would be ambiguous.",
                remedy=f"Pick the block that contains it ({block!r})."
                if block
                else "No block contains it: pick another layer; `medxai layers` lists them.",
                code="X15",
            )
        return record(output)

    return submodule(network, name).register_forward_hook(leaving)


def submodule(network: nn.Module, name: str) -> nn.Module:
    """The module of that name; an unknown name is answered with its nearest neighbours."""
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if name in modules and name:
        return modules[name]
    near = difflib.get_close_matches(name, [known for known in modules if known], n=5, cutoff=0.0)
    raise LayerNotFoundError(
        f"The model has no layer named {name!r}.",
        remedy=f"Did you mean one of {near}?" if near else "It has no layers at all: it is a single module.",
        code="X14",
    )
