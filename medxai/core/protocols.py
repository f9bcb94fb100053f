"""The shape of an attribution method, and of what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from medxai.core.saliency import Status
from medxai.core.target import Target
from medxai.shapes import Images, Maps, Scores


@dataclass(frozen=True, eq=False)
class Attribution:
    """Raw signed maps (one per sample) of one target, at the resolution of `layer`; "" is the input itself."""

    maps: Maps
    scores: Scores
    status: tuple[Status, ...]
    layer: str
    notices: tuple[str, ...] = ()


@runtime_checkable
class Attributor(Protocol):
    """A frozen description of a method: holds no model and no state, and leaves the model as it found it."""

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        """One attribution per target; what the targets share (the forward pass) is computed once."""
        ...
