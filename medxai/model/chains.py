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
from medxai.model.folds import fold
from medxai.model.means import mean_first
from medxai.model.recompute import made_again

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
Pair = tuple[nn.Module, nn.Module]
Together = Mapping[Pair, Callable[[Any], Any]]
Chains = Mapping[nn.Sequential, Together]


def chains(network: nn.Module) -> Chains:
    """Every plain nn.Sequential of the network with such neighbours, and what answers for each two of them."""
    plain = [module for module in network.modules() if isinstance(module, nn.Sequential) and _plain(module)]
    found = {chain: {two: answer for two in pairwise(chain) if (answer := _together(*two))} for chain in plain}
    return {chain: pairs for chain, pairs in found.items() if pairs}


def quicker(known: Chains, besides: Collection[nn.Module]) -> dict[nn.Module, Callable[[Any], Any]]:
    """Forwards for the chains, where nothing listens to the two of a pair, neither is in `besides` nor was replaced."""
    if _has_any_global_hook():  # type: ignore[no-untyped-call]
        return {}
    free = {chain: {two: both for two, both in pairs.items() if _free(two, besides)} for chain, pairs in known.items()}
    return {chain: partial(_run, chain, pairs) for chain, pairs in free.items() if pairs and not replaced(chain)}


def _together(first: nn.Module, second: nn.Module) -> Callable[[Any], Any] | None:
    return mean_first(first, second) or fold(first, second)


def _run(chain: nn.Sequential, pairs: Together, input: Any) -> Any:  # noqa: A002 - by PyTorch's name
    modules, place, pairs = [*chain], 0, {} if made_again() else pairs
    while place < len(modules):
        both = pairs.get((modules[place], modules[place + 1])) if place + 1 < len(modules) else None
        input = (modules[place] if both is None else both)(input)  # noqa: A001
        place += 1 if both is None else 2
    return input


def _free(pair: Pair, besides: Collection[nn.Module]) -> bool:
    return not any(one in besides or replaced(one) or any(getattr(one, hooks) for hooks in _HOOKS) for one in pair)


def _plain(chain: nn.Sequential) -> bool:
    return type(chain).forward is nn.Sequential.forward and not replaced(chain)
