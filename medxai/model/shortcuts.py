"""Parts of a network that can give their answer, but for rounding, in less time."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import nn

from medxai.model.alter import answering
from medxai.model.chains import Chains, chains, quicker
from medxai.model.norms import Line, by_line, lines


@dataclass(frozen=True, eq=False, slots=True)
class Shortcuts:
    """Lines for normalisations that read channels last, and neighbours in chains that answer together."""

    lines: Mapping[nn.Module, Line] = field(default_factory=dict)
    chains: Chains = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module) -> "Shortcuts":
        return cls(lines(network), chains(network))

    def taken(self, besides: Collection[nn.Module] = ()) -> AbstractContextManager[None]:
        """Inside, the network takes them, but where one of `besides` is to answer otherwise.

        Neighbours answer together only where nothing listens to them.
        """
        answers = by_line(self.lines) | quicker(self.chains, besides)
        return answering({module: answer for module, answer in answers.items() if module not in besides})
