"""Measure where in the image the cells of a layer look: the centroid of their gradient, with no layer arithmetic."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medxai.model.footprint import footprint
from medxai.model.trace import trace

MEAN = {nn.MaxPool2d: nn.AvgPool2d, nn.MaxPool3d: nn.AvgPool3d}


def uniform(model: nn.Module) -> nn.Module:
    """The same wiring with equal positive weights, mean instead of max pools and gates that stay open."""
    model = model.eval().double()
    for name, module in list(model.named_modules()):
        if type(module) in MEAN:
            parent, _, child = name.rpartition(".")
            mean = MEAN[type(module)](module.kernel_size, module.stride, module.padding, module.ceil_mode)
            setattr(model.get_submodule(parent), child, mean)
        if isinstance(module, nn.modules.conv._ConvNd):
            nn.init.constant_(module.weight, 0.0 if "_se_" in name else 1 / module.weight[0].numel())
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
        if isinstance(getattr(module, "bias", None), Tensor):
            nn.init.zeros_(module.bias)
    return model


def centres(
    model: nn.Module, layers: Sequence[str], size: Sequence[int], axis: int, run: int = 1
) -> list[tuple[float, float]]:
    """For each layer the measured and the predicted centre, along `axis`, of `run` neighbouring cells in its middle."""
    image = torch.ones(1, 1, *size, dtype=torch.float64, requires_grad=True)
    kept: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda _m, _a, out, name=name: kept.update({name: out.clone()}))
        for name in layers
    ]
    with torch.enable_grad():
        model(image)
    for handle in handles:
        handle.remove()
    traced = trace(model, (1, 1, *size))
    return [_centre(image, kept[name], axis, run, footprint(traced, name)) for name in layers]


def _centre(image: Tensor, output: Tensor, axis: int, run: int, found) -> tuple[float, float]:
    cells = output.sum(1)[0].movedim(axis, 0)
    first = len(cells) // 2 - run // 2
    middle = tuple(n // 2 for n in cells.shape[1:])
    chosen = torch.stack([cells[(i, *middle)] for i in range(first, first + run)])
    chosen = (chosen / chosen.detach()).sum()  # every cell counts alike, however many taps it has
    (gradient,) = torch.autograd.grad(chosen, image, retain_graph=True)
    profile = gradient[0, 0].movedim(axis, 0).flatten(1).sum(1)
    assert profile.min() >= 0
    assert profile[0] == profile[-1] == 0, "the receptive field is cut off by the border"
    measured = float((profile * torch.arange(len(profile))).sum() / profile.sum())
    return measured, found.start[axis] + found.jump[axis] * (first + (run - 1) / 2)
