"""A 1x1 convolution and a mean over cells commute; the mean first leaves the convolution a fraction of the cells.

    mean_c (W x_c + b) = W (mean_c x_c) + b

The transitions of a DenseNet hold such pairs, and half of what follows its third block.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

from torch import nn

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_MEANS = (nn.AvgPool2d, nn.AvgPool3d)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
Pair = tuple[nn.Module, nn.Module]
Chains = Mapping[nn.Sequential, tuple[Pair, ...]]


def means(network: nn.Module) -> Chains:
    """Every plain nn.Sequential that runs a 1x1 convolution and then a mean over its cells, with these pairs."""
    plain = [module for module in network.modules() if isinstance(module, nn.Sequential) and _plain(module)]
    chains = {chain: tuple(filter(_commute, pairwise(chain))) for chain in plain}
    return {chain: pairs for chain, pairs in chains.items() if pairs}


def swapped(chains: Chains, besides: Collection[nn.Module]) -> dict[nn.Module, Callable[[Any], Any]]:
    """Each chain runs the second of a pair before the first, where nothing listens to them and neither is in `besides`.

    Called by anything but their chain, the modules answer as ever.
    """
    free = {chain: [pair for pair in pairs if _free(pair, besides)] for chain, pairs in chains.items()}
    return {chain: partial(_run, chain, pairs) for chain, pairs in free.items() if pairs}


def _run(chain: nn.Sequential, pairs: Collection[Pair], input: Any) -> Any:  # noqa: A002 - by PyTorch's name
    modules = [*chain]
    for place, two in enumerate(pairwise(chain)):
        if two in pairs:
            modules[place : place + 2] = reversed(two)
    for module in modules:
        input = module(input)  # noqa: A001
    return input


def _free(pair: Pair, besides: Collection[nn.Module]) -> bool:
    return not any(module in besides or any(getattr(module, hooks) for hooks in _HOOKS) for module in pair)


def _plain(chain: nn.Sequential) -> bool:
    return type(chain).forward is nn.Sequential.forward and not _set(chain)


def _commute(pair: tuple[Any, Any]) -> bool:
    """Whether the convolution reads one cell, and each mean is over as many cells of the image, and leaves fewer."""
    convolution, mean = pair
    if type(convolution) not in _CONVOLUTIONS or type(mean) not in _MEANS or _set(convolution) or _set(mean):
        return False
    one_cell = _all(convolution.kernel_size, 1) and _all(convolution.stride, 1)
    unpadded = _all(convolution.padding, 0) or isinstance(convolution.padding, str)
    whole = _all(mean.padding, 0) and not mean.ceil_mode and mean.divisor_override is None
    return one_cell and unpadded and whole and not _all(mean.stride, 1)


def _all(sizes: object, size: int) -> bool:
    return all(one == size for one in (sizes if isinstance(sizes, tuple) else (sizes,)))


def _set(module: nn.Module) -> bool:
    """Whether somebody gave this module a forward of its own."""
    return "forward" in vars(module)
