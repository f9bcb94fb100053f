"""Let a layer emit something else, for as long as a block lasts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from medxai.core.layer import Layer
from medxai.model.capture import submodule
from medxai.shapes import Features


@contextmanager
def altered(network: nn.Module, layer: Layer, change: Callable[[Features], Features]) -> Iterator[None]:
    """`layer` emits change(features) in the place of its features; the tokens that belong to no place stay."""

    def emit(_module: nn.Module, _args: tuple[object, ...], output: Tensor) -> Tensor:
        return layer.layout.write(change(layer.layout.read(output)), output)

    handle = submodule(network, layer.name).register_forward_hook(emit)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def answering(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Inside, each of these modules answers by its function, and runs its hooks as ever."""
    with ExitStack() as stack:
        for module, forward in forwards.items():
            stack.callback(_restore, module, module.__dict__.get("forward"))
            module.__dict__["forward"] = forward
        yield


def replaced(module: nn.Module) -> bool:
    """Whether somebody gave this module a forward of its own."""
    return "forward" in vars(module)


def _restore(module: nn.Module, forward: Any) -> None:
    module.__dict__.pop("forward", None)
    if forward is not None:
        module.__dict__["forward"] = forward
