"""Parts of a network that can give their answer, but for rounding, in less time."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import nn

from medxai.model.alter import answering
from medxai.model.means import Pair, means, swapped
from medxai.model.norms import Line, drawn, lines


@dataclass(frozen=True, eq=False, slots=True)
class Shortcuts:
    """Lines for normalisations that read channels last, and means before 1x1 convolutions."""

    lines: Mapping[nn.Module, Line] = field(default_factory=dict)
    means: tuple[Pair, ...] = ()

    @classmethod
    def of(cls, network: nn.Module) -> "Shortcuts":
        return cls(lines(network), means(network))

    def taken(self, besides: Collection[nn.Module] = ()) -> AbstractContextManager[None]:
        """Inside, the network takes them, but none for the modules `besides` or around what listens."""
        return answering(drawn(self.lines) | swapped(self.means, besides))
