"""Neighbours in a plain nn.Sequential that give their common answer in less time together.

Only a chain runs them so: called by anything else, the modules answer as ever.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.modules.module import _has_any_global_hook

from medxai.model.alter import replaced
from medxai.model.folds import folded
from medxai.model.means import mean_first

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
Pair = tuple[nn.Module, nn.Module]
Together = Mapping[Pair, Callable[[Any], Any]]
Chains = Mapping[nn.Sequential, Together]


def chains(network: nn.Module) -> Chains:
    """Every plain nn.Sequential of the network with such neighbours, and what answers for each two of them."""
    plain = [module for module in network.modules() if isinstance(module, nn.Sequential) and _plain(module)]
    found = {chain: {two: answer for two in pairwise(chain) if (answer := _together(two))} for chain in plain}
    return {chain: pairs for chain, pairs in found.items() if pairs}


def quicker(chains: Chains, besides: Collection[nn.Module]) -> dict[nn.Module, Callable[[Any], Any]]:
    """How each chain answers, where nothing listens to the two of a pair and neither is in `besides`."""
    if _has_any_global_hook():  # type: ignore[no-untyped-call]
        return {}
    free = {chain: {two: both for two, both in pairs.items() if _free(two, besides)} for chain, pairs in chains.items()}
    return {chain: partial(_run, chain, pairs) for chain, pairs in free.items() if pairs}


def _together(two: Pair) -> Callable[[Any], Any] | None:
    return None if any(map(replaced, two)) else mean_first(*two) or folded(*two)


def _run(chain: nn.Sequential, pairs: Together, input: Any) -> Any:  # noqa: A002 - by PyTorch's name
    modules = [*chain, None]
    place = 0
    while module := modules[place]:
        both = pairs.get((module, modules[place + 1]))
        input = both(input) if both else module(input)  # noqa: A001
        place += 2 if both else 1
    return input


def _free(pair: Pair, besides: Collection[nn.Module]) -> bool:
    return not any(module in besides or any(getattr(module, hooks) for hooks in _HOOKS) for module in pair)


def _plain(chain: nn.Sequential) -> bool:
    return type(chain).forward is nn.Sequential.forward and not replaced(chain)
