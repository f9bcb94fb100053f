"""A network that answers one part of its output, or what one of its layers emits, under the names it had."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from medxai.core.layer import Layer
from medxai.errors import LayerError, TargetError
from medxai.model.capture import submodule
from medxai.model.guard import bare
from medxai.model.layers import find_row
from medxai.model.trace import trace

Step = int | str
Output = Step | tuple[Step, ...] | Layer | None


def tapped(model: nn.Module, output: Output, image_shape: tuple[int, ...]) -> nn.Module:
    """The bare network, answering only `output`: a key, an index or a path of these, or what a layer emits; None: all.

    Shares every module, weight, hook and name with `model`, whose forward stays as it is. What a layer emits comes as
    (b, channels, *cells) where it is a map, else as it is. Raises TargetError for a part that the output lacks, and
    LayerNotFoundError or LayerError for a layer that is missing, or does not run exactly once and emit a tensor.
    """
    network = bare(model)
    if output is None:
        return network
    layer = _with_layout(network, output, image_shape) if isinstance(output, Layer) else None
    path = output if isinstance(output, tuple) else (output,)
    twin = object.__new__(type(network))
    vars(twin).update(vars(network))
    own = vars(network).get("forward")
    whole = own or partial(type(network).forward, twin)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if layer is None:
            return _part(whole(*args, **kwargs), path)
        seen: list[Any] = []
        handle = submodule(twin, layer.name).register_forward_hook(lambda _module, _args, out: seen.append(out))
        try:
            whole(*args, **kwargs)
        finally:
            handle.remove()
        return _only(seen, layer)

    vars(twin)["forward"] = forward
    return twin


def _with_layout(network: nn.Module, layer: Layer, image_shape: tuple[int, ...]) -> Layer:
    submodule(network, layer.name)
    row = find_row(trace(network, image_shape), layer.name)
    return Layer(layer.name, row.layout) if layer == Layer(layer.name) and row.spatial else layer


def _only(seen: list[Any], layer: Layer) -> Tensor:
    if len(seen) != 1 or not isinstance(seen[0], Tensor):
        raise LayerError(
            f"What layer {layer.name!r} emits cannot be the output to explain.",
            expected="one tensor per pass",
            found=f"{len(seen)} calls" if len(seen) != 1 else f"a {type(seen[0]).__name__}",
            code="X15",
        )
    return layer.layout.read(seen[0])


def _part(output: Any, path: Sequence[Any]) -> Any:
    for step in path:
        named = isinstance(output, Mapping) and step in output
        counted = isinstance(output, Sequence) and isinstance(step, int) and -len(output) <= step < len(output)
        if not named and not counted:
            raise TargetError(
                f"The model's output has no part {step!r}.",
                expected=_parts(output),
                remedy="Correct `output`.",
                code="X16",
            )
        output = output[step]
    return output


def _parts(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"one of the keys {list(output)}"
    if isinstance(output, Sequence) and not isinstance(output, str):
        return f"0 to {len(output) - 1}, of a {type(output).__name__}"
    return f"no part at all: it is a {type(output).__name__}"
