"""One pass over the network without data: what every layer emits, in which order, and where in the image it looks."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from medxai.core.layer import Footprint
from medxai.errors import MedxaiError, ModelError
from medxai.model.faults import FAULTS, told
from medxai.model.guard import bare, seeded, untouched
from medxai.model.record import LayerRow, Recorder

__all__ = ["LayerRow", "Trace", "trace"]


@dataclass(frozen=True, slots=True)
class Trace:
    """The layers in order of completion, for an image of shape `image_shape` (channels, *space).

    `output` says where the cells of the model's output look, where that is a map; of one with more than one cell
    `segments` is true.
    """

    image_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    layers: tuple[LayerRow, ...]
    segments: bool
    notices: tuple[str, ...] = ()
    output: Footprint | None = None


def trace(model: nn.Module, image_shape: tuple[int, ...]) -> Trace:
    """What the layers of `model` emit for images of shape (batch, channels, *space); the model stays as it was.

    Runs on PyTorch's meta device, where tensors have shapes and no values. A network that cannot run so is run once on
    a real image of zeros instead, and a notice says why. Raises ModelError where the network does not fit the image,
    and for a model that cannot be watched at all.
    """
    if len(image_shape) < 3:
        raise ModelError("This is no image.", expected="a shape (batch, channels, *space)", found=f"{image_shape}")
    shape = (1, *image_shape[1:])
    device = next((p.device for p in bare(model).parameters()), torch.device("cpu"))
    dry = Recorder(torch.zeros(shape, device="meta"))
    try:
        with untouched(model, device) as network:
            state = {k: v.to("meta") for k, v in (*network.named_parameters(), *network.named_buffers())}
            with dry.watching(network):
                return _summary(dry, functional_call(network, state, (dry.image,)))
    except MedxaiError:
        raise
    except FAULTS as fault:
        notice = f"Traced on a real image of zeros, because the pass without values broke off ({told(fault)})."
    real = Recorder(torch.zeros(shape, device=device))
    try:
        with untouched(model, device) as network, seeded(0, device), real.watching(network):
            return _summary(real, network(real.image), notice)
    except MedxaiError:
        raise
    except FAULTS as fault:
        raise real.refusal(fault) from fault


def _summary(recorder: Recorder, output: object, *notices: str) -> Trace:
    first = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
    mark = recorder.follow.mark(first)
    rank = recorder.image.ndim - 2
    print_ = mark.place.footprint(rank) if mark and first is not None and first.ndim == rank + 2 else None
    return Trace(
        image_shape=tuple(recorder.image.shape[1:]),
        output_shape=() if first is None else tuple(first.shape[1:]),
        layers=recorder.rows(output),
        segments=print_ is not None and any(n > 1 for n in print_.shape),
        notices=notices,
        output=print_,
    )
