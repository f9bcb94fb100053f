"""A 1x1 convolution and a mean over cells commute; the mean first leaves the convolution a fraction of the cells.

    mean_c (W x_c + b) = W (mean_c x_c) + b

The transitions of a DenseNet are such pairs, and half of what follows its third block.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import nn

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_MEANS = (nn.AvgPool2d, nn.AvgPool3d)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """Nothing but the mean reads what the convolution answers."""

    convolution: nn.Module
    mean: nn.Module

    def free(self, besides: Collection[nn.Module]) -> bool:
        """Whether nothing listens to either, and neither is among `besides`."""
        modules = (self.convolution, self.mean)
        return not any(one in besides or any(getattr(one, hooks) for hooks in _HOOKS) for one in modules)


def means(network: nn.Module) -> tuple[Pair, ...]:
    """Those that an nn.Sequential runs one after the other, with no other place in the network.

    A network that calls a child of its own accord escapes; compare what the whole answers.
    """
    chains = (module for module in network.modules() if _plain(module))
    found = [Pair(*two) for chain in chains for two in pairwise(chain.children()) if _commute(*two)]
    places = Counter(child for module in network.modules() for child in module._modules.values()) if found else {}
    return tuple(pair for pair in found if places[pair.convolution] == places[pair.mean] == 1)


def swapped(means: Sequence[Pair], besides: Collection[nn.Module]) -> dict[nn.Module, Callable[..., Any]]:
    """Each of a pair answers as the other, where the pair is free."""
    answers = dict[nn.Module, Callable[..., Any]]()
    for pair in means:
        if pair.free(besides):
            answers |= {pair.convolution: pair.mean.forward, pair.mean: pair.convolution.forward}
    return answers


def _plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not _set(module)


def _commute(convolution: Any, mean: Any) -> bool:
    """Whether the convolution reads one cell, and each mean is over as many cells of the image, and leaves fewer."""
    if type(convolution) not in _CONVOLUTIONS or type(mean) not in _MEANS or _set(convolution) or _set(mean):
        return False
    one_cell = _all(convolution.kernel_size, 1) and _all(convolution.stride, 1)
    unpadded = _all(convolution.padding, 0) or isinstance(convolution.padding, str)
    whole = _all(mean.padding, 0) and not mean.ceil_mode and mean.divisor_override is None
    return one_cell and unpadded and whole and not _all(mean.stride, 1)


def _all(sizes: object, size: int) -> bool:
    return all(one == size for one in (sizes if isinstance(sizes, tuple) else (sizes,)))


def _set(module: nn.Module) -> bool:
    return "forward" in vars(module)
