"""Touch a model without leaving a trace."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from operator import is_
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from medxai.errors import ModelError

Holder = dict[Any, Any] | list[Any] | set[Any] | deque[Any]
_CONTAINERS = (dict, list, set, deque)
_RECOMPUTING = {"use_checkpoint", "grad_checkpointing"}
_PLAIN = frozenset((NoneType, bool, int, float, str, tuple))  # tells most attributes apart at once


def bare(model: nn.Module) -> nn.Module:
    """The network itself, without the wrapper of DataParallel, DistributedDataParallel or torch.compile.

    Raises ModelError for TorchScript, and for a network whose parameters have no shape yet.
    """
    inner = model.module if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) else model
    if any(isinstance(module, torch.jit.ScriptModule) for module in inner.modules()):
        script = [name for name, module in inner.named_modules() if isinstance(module, torch.jit.ScriptModule)]
        raise ModelError(
            f"{f'Layer {script[0]!r}' if script[0] else 'This model'} is TorchScript, a program without Python modules "
            "to hook.",
            expected="a torch.nn.Module",
            remedy="Give the nn.Module it was made from, with the same weights.",
            code="X03",
        )
    inner = inner._modules.get("_orig_mod", inner) or inner
    if inner is not model:
        return bare(inner)
    refuse_lazy(model)
    return model


def refuse_lazy(model: nn.Module) -> None:
    """Raises ModelError where a lazy module still waits for its first input to know its shapes."""
    if any(map(_waits, model.modules())):
        names = {module: name or "the model itself" for name, module in model.named_modules()}
        waiting = [f"{name} ({type(module).__name__})" for module, name in names.items() if _waits(module)]
        raise ModelError(
            "The network has lazy layers, whose parameters have no shape yet.",
            found=", ".join(waiting[:5]),
            remedy="Run one forward pass first: model(torch.zeros(1, channels, *space)).",
        )


def _waits(module: nn.Module) -> bool:
    return isinstance(module, LazyModuleMixin) and "_initialize_hook" in vars(module)


@contextmanager
def untouched(model: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Inside, the bare network is as `lent` and the surroundings `calm`; after it, every bit is as found.

    Gradients are recorded only from where a capture switches them on; `.grad` is never written. Raises ModelError where
    `bare` does.
    """
    with calm(device), lent(model, device) as network:
        yield network


@contextmanager
def calm(device: torch.device) -> Iterator[None]:
    """What the caller's surroundings would change is set aside: inference mode, gradients, autocast, TF32, and cuDNN's
    choice of kernels by speed are off.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(_full_precision())
        yield


@contextmanager
def lent(model: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Inside, the bare network is in eval mode, frozen, float32, on `device`, and keeps what its gradient needs.

    Restores modes, flags, buffers and weights (the same tensors, not copies) and every attribute that a forward pass
    replaced, added or wrote into, also after an exception. Layers that would make their activations again in the
    backward pass to save memory (`use_checkpoint`, `grad_checkpointing`) make them once: the second time nothing
    would answer in the place of another. Raises ModelError where `bare` does.
    """
    network = bare(model)
    weights = [(p, p.data, p.requires_grad) for p in network.parameters()]
    with attributes_kept(network, buffers=False):  # which are copies inside
        try:
            with calm(device):
                _lend(network, [p for p, *_ in weights], device)
            yield network
        finally:
            for p, data, flag in weights:
                p.data = data
                p.requires_grad_(flag)


def _lend(network: nn.Module, parameters: Iterable[nn.Parameter], device: torch.device) -> None:
    network.eval()
    for p in parameters:
        p.requires_grad_(False)
        p.data = _single(p.data, device)
    for module in network.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _single(buffer, device).clone()
        for name in _RECOMPUTING & vars(module).keys():
            if vars(module)[name] is True:
                vars(module)[name] = False


@contextmanager
def attributes_kept(network: nn.Module, *, buffers: bool = True) -> Iterator[None]:
    """What the modules hold afterwards is what they held before, see `AsFound`."""
    found = AsFound(network, buffers=buffers)
    try:
        yield
    finally:
        found.put_back()


class AsFound:
    """What the modules of a network hold, directly or in lists, dicts and sets, to be put back after its passes.

    The very objects come back, and what is new is let go. Tensors have the numbers that they had, by whatever way they
    were written into, but for parameters, which no pass in eval mode writes, and without `buffers` for these.
    """

    def __init__(self, network: nn.Module, *, buffers: bool = True) -> None:
        holders, tensors = _held(network)
        self._filled = [(holder, _entries(holder)) for holder in holders if holder]
        self._empty = [holder for holder in holders if not holder]  # by far the most
        apart = () if buffers else (id(one) for module in network.modules() for one in module._buffers.values())
        written = {id(one): one for one in tensors if _is_written(one)}
        for buffer in apart:
            written.pop(buffer, None)
        self._tensors = [(one, one.data, one.detach().clone()) for one in written.values()]

    def put_back(self) -> None:
        """What passes left behind is gone."""
        for holder in self._empty:
            if holder:
                holder.clear()
        for holder, entries in self._filled:
            if not _same(_entries(holder), entries):
                _refill(holder, entries)
        for tensor, data, value in self._tensors:
            _rewrite(tensor, data, value)


def _is_written(one: Tensor) -> bool:
    """Whether a pass may write numbers into it, and we may."""
    return not (one.is_nested or one.is_meta or one.is_inference()) and one.layout is torch.strided


def _rewrite(tensor: Tensor, data: Tensor, value: Tensor) -> None:
    if tensor.data_ptr() != data.data_ptr() or tensor.shape != data.shape or tensor.stride() != data.stride():
        tensor.data = data
    if not torch.equal(data, value) and not torch.equal(data.nan_to_num(), value.nan_to_num()):
        with torch.no_grad():
            tensor.copy_(value)


def _held(network: nn.Module) -> tuple[list[Holder], list[Tensor]]:
    """The attribute dictionaries of all modules, and the containers in them, however deep; and tensors in any of them.

    Parameters, and what else only derives from a tensor, are none.
    """
    found: list[Holder] = [vars(module) for module in network.modules()]
    seen, tensors = set(map(id, found)), list[Tensor]()
    for holder in found:  # grows as it is walked
        for value in holder.values() if isinstance(holder, dict) else holder:
            kind = type(value)
            if kind is Tensor:
                tensors.append(value)
            elif kind not in _PLAIN and isinstance(value, _CONTAINERS) and id(value) not in seen:
                seen.add(id(value))
                found.append(value)
    return found, tensors


def _entries(holder: Holder) -> list[Any]:
    return [*holder, *holder.values()] if isinstance(holder, dict) else list(holder)


def _same(now: list[Any], entries: list[Any]) -> bool:
    return len(now) == len(entries) and all(map(is_, now, entries))


def _refill(holder: Holder, entries: list[Any]) -> None:
    holder.clear()
    if isinstance(holder, dict):
        half = len(entries) // 2
        holder.update(zip(entries[:half], entries[half:], strict=True))
    elif isinstance(holder, set):
        holder.update(entries)
    else:
        holder.extend(entries)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers drawn inside depend on `seed` alone; the generators go on afterwards as if nothing was drawn."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type="cuda"):
        torch.manual_seed(seed)
        yield


@contextmanager
def _full_precision() -> Iterator[None]:
    cudnn, precision = torch.backends.cudnn, torch.get_float32_matmul_precision()
    with cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False):
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)


def _single(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, torch.float32 if tensor.is_floating_point() else tensor.dtype)
