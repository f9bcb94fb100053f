"""Let a layer emit something else, for as long as a block lasts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
