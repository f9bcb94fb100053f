"""What a replay needs of a clean pass: which module calls have finished when a layer answers, and their answers."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from medxai.errors import LayerError
from medxai.model.capture import submodule


@dataclass(eq=False, slots=True)
class Finished:
    """One outermost call that ended before the layer answered; `number` counts the calls of the pass."""

    number: int
    module: nn.Module
    answer: Any
    versions: tuple[int, ...]

    @property
    def overwritten(self) -> bool:
        """Whether later code changed the answer in place."""
        return self.versions != versions(self.answer)


@dataclass(eq=False)
class CleanPass:
    """One clean pass: the layer's output, the model's output, and the finished calls in their order."""

    layer: str
    target: nn.Module
    keep: Collection[int]
    emitted: Tensor | None = None
    output: Any = None
    finished: list[Finished] = field(default_factory=list)
    _count: int = 0
    _running: list[tuple[int, list[Finished]]] = field(default_factory=list)

    @property
    def activation(self) -> Tensor:
        if self.emitted is None:
            raise LayerError(f"Layer {self.layer!r} did not run in this forward pass.")
        return self.emitted

    def entered(self, _module: nn.Module, _args: object) -> None:
        self._running.append((self._count, []))
        self._count += 1

    def left(self, module: nn.Module, _args: object, output: Any) -> None:
        number, _ = self._running.pop()
        if module is self.target:
            self._emit(output)
        elif self.emitted is None:
            copy = torch.clone if number in self.keep else Tensor.detach
            answer = tree_map_only(Tensor, lambda t: copy(t.detach()), output)
            if self._running:
                self._running[-1][1].append(Finished(number, module, answer, versions(answer)))

    def _emit(self, output: Any) -> None:
        if self.emitted is not None:
            raise LayerError(f"Layer {self.layer!r} runs more than once, so it is unclear where to resume.")
        if not isinstance(output, Tensor):
            raise LayerError(f"Layer {self.layer!r} does not emit a tensor.", found=type(output).__name__)
        self.emitted = output.detach().clone()
        self.finished = [call for _, calls in self._running for call in calls]


def clean_pass(model: nn.Module, layer: str, images: Tensor, keep: Collection[int] = ()) -> CleanPass:
    """One pass of the images; the answers of the calls in `keep` are copied as they are given."""
    clean = CleanPass(layer, submodule(model, layer), keep)
    handles = []
    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(clean.entered))
            handles.append(module.register_forward_hook(clean.left))
        clean.output = tree_map_only(Tensor, lambda t: t.detach().clone(), model(images))
    finally:
        for handle in handles:
            handle.remove()
    return clean


def versions(answer: Any) -> tuple[int, ...]:
    """How often each tensor of an answer was written in place."""
    return tuple(leaf._version for leaf in tree_leaves(answer) if isinstance(leaf, Tensor))
