"""One method on one architecture: the laws that do not need a network whose answer is known."""

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.support.brief import brief
from benchmarks.support.networks import Architecture
from medxai import catalog
from medxai.core.protocols import Attribution, Attributor
from medxai.errors import MedxaiError
from medxai.model.guard import seeded
from medxai.model.layers import layer_table, located
from medxai.model.trace import Trace, trace

CHANNELS = 64  # channels of the layer that masking methods sweep over here
FEW = 3
CPU = torch.device("cpu")


class BrokenLawError(AssertionError):
    """A method ran and did what no method may do."""


def judge(name: str, architecture: Architecture, ndim: int) -> str:
    """ "" where the method runs and obeys, else the reason it refuses with. Raises BrokenLawError.

    Laws: the map is finite and lies on a layer whose place is known; it says something, or why not; the model is as it
    was found; the same seed gives the same bytes; a batch equals one image at a time.
    """
    network, images = architecture.network(ndim), architecture.images(ndim)
    before = _state(network)
    try:
        traced = trace(network, tuple(images.shape))
        method = _method(name, traced)
        found = _run(method, network, images, architecture, ndim)
    except MedxaiError as refusal:
        _demand(_state(network) == before, "a refusal leaves the model as it was found")
        return f"{type(refusal).__name__}: {refusal}"
    _demand(_state(network) == before, "the model is left as it was found")
    _demand(bool(found.maps.isfinite().all()), "the map is finite")
    _demand(found.maps.dtype == torch.float32 and found.maps.ndim == ndim + 1, "one float32 map per image")
    known = found.footprint or (not found.layer) or located(traced, found.layer).footprint
    _demand(bool(known), "the place of the cells is known")
    _demand(found.status[0].ok == bool(found.maps.any()) or not found.status[0].ok, "an empty map is called degenerate")
    if catalog.traits(name).reads != "score":  # a sweep takes too long to run four times
        again = _run(method, network, images, architecture, ndim)
        _demand(torch.equal(again.maps, found.maps), "the same seed gives the same bytes")
        _check_batch(method, network, architecture, ndim)
    return "" if found.status[0].ok else str(found.status[0])


def _check_batch(method: Attributor, network: nn.Module, architecture: Architecture, ndim: int) -> None:
    images = architecture.images(ndim, batch=2)
    together = _run(method, network, images, architecture, ndim).maps
    alone = torch.cat([_run(method, network, images[i : i + 1], architecture, ndim).maps for i in range(2)])
    # of the sum, not the largest: rounding opens a ReLU at 0 in one of the two, and a few cells differ; and one in a
    # hundred, because before a layer norm the channels of HiResCAM cancel to a ten-thousandth, which rounding reaches
    error = float((together - alone).abs().sum() / alone.abs().sum().clamp(min=1e-30))
    _demand(error <= 1e-2, f"a batch equals one image at a time, and not within {error:.1e}")


def _method(name: str, traced: Trace) -> Attributor:
    method: Any = brief(catalog.method(name), FEW)
    if catalog.traits(name).reads == "score":
        narrow = [row.name for row in layer_table(traced) if row.usable and row.shape[0] <= CHANNELS]
        own = {field.name for field in fields(method)}
        if narrow and "layer" in own:
            method = replace(method, layer=narrow[-1])
        elif narrow and "layers" in own:
            method = replace(method, layers=(narrow[0], narrow[-1]))
    located_: Attributor = method
    return located_


def _run(method: Attributor, network: nn.Module, images: Tensor, architecture: Architecture, ndim: int) -> Attribution:
    with seeded(0, CPU):
        return method.attribute(network, images, (architecture.target(ndim),))[0]


def _state(network: nn.Module) -> tuple[object, ...]:
    hooks = tuple((len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in network.modules())
    modes = tuple(m.training for m in network.modules())
    attributes = tuple(tuple(sorted(vars(m))) for m in network.modules())
    weights = tuple((p.data_ptr(), p.requires_grad, p.grad is None, p._version) for p in network.parameters())
    return hooks, modes, attributes, weights, tuple(float(b.double().sum()) for b in network.buffers())


def _demand(holds: bool, law: str) -> None:
    if not holds:
        raise BrokenLawError(law)
