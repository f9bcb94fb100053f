"""Touch a model without leaving a trace."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn


def bare(model: nn.Module) -> nn.Module:
    """The network itself, without the wrapper of DataParallel, DistributedDataParallel or torch.compile."""
    inner = model.module if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) else model
    inner = inner._modules.get("_orig_mod", inner) or inner
    return bare(inner) if inner is not model else model


@contextmanager
def untouched(model: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Inside, the bare network is in eval mode, frozen, float32 and on `device`; after it, every bit is as found.

    Also sets aside what the caller's surroundings would change: inference mode, autocast, TF32 and cuDNN's choice of
    kernels by speed are off, and gradients are recorded only from where a capture switches them on. Restores modes,
    flags, buffers and weights (the same tensors, not copies), also after an exception; `.grad` is never written.
    """
    network = bare(model)
    modes = [(module, module.training) for module in network.modules()]
    weights = [(p, p.data, p.requires_grad) for p in network.parameters()]
    buffers = [(m, name, b) for m in network.modules() for name, b in m._buffers.items() if b is not None]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(_full_precision())
        try:
            network.eval()
            for p, data, _ in weights:
                p.requires_grad_(False)
                p.data = _single(data, device)
            for module, name, buffer in buffers:
                module._buffers[name] = _single(buffer, device).clone()
            yield network
        finally:
            for module, mode in modes:
                module.training = mode
            for p, data, flag in weights:
                p.data = data
                p.requires_grad_(flag)
            for module, name, buffer in buffers:
                module._buffers[name] = buffer


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
