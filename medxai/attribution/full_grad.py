"""FullGrad: the whole score taken apart into what the image and every bias of the network add to it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from medxai.attribution.bias import bias_of, input_dependent
from medxai.attribution.passes import Pass, one_pass, refuse_unbatched
from medxai.attribution.status import judge
from medxai.core.layer import Layer
from medxai.core.protocols import Attribution, Traits
from medxai.core.target import Target
from medxai.model.guard import bare
from medxai.model.place import on_image
from medxai.model.record import LayerRow
from medxai.model.trace import trace
from medxai.shapes import Features, Images, Maps, Scores

_ROUNDING = 1e-6
_COMPLETE = 1e-2


@dataclass(frozen=True, eq=False, slots=True)
class Biased:
    """What one call of a bias-carrying module emitted, and the bias in it, broadcastable to that."""

    name: str
    output: Tensor
    bias: Tensor


@dataclass(eq=False)
class _Parts:
    """The score of each sample in parts: on the image's grid, without a place, and what all of them are worth."""

    map: Maps
    sum: Scores
    placed: Scores
    elsewhere: Scores = field(init=False)

    def __post_init__(self) -> None:
        self.elsewhere = torch.zeros_like(self.sum)


@dataclass(frozen=True, kw_only=True)
class FullGrad:
    """map = sum_c phi(|x_c dy/dx_c|) + sum over layers l, channels k of phi(|b_lk dy/dz_lk|) (Srinivas, Fleuret 2019).

    x is the image, z_l what layer l emits and b_l the bias in it: of convolutions, linear layers and, in eval mode,
    beta - mean gamma / sqrt(var + eps) of batch norms. phi scales a channel's map to [0, 1]; each layer is laid on the
    image by its own footprint. For piecewise linear networks the parts add up to the score before |.| and phi:
    y = <x, dy/dx> + sum_l <b_l, dy/dz_l>. `details["completeness_error"]` says how far they do not, as a share of the
    largest part, `details["unplaced_share"]` how much lies in biases that belong to no place, as those of the head:
    they are counted, not drawn. Norms that scale by their input and smooth activations break the sum; a notice says so.
    """

    traits: ClassVar[Traits] = Traits(cost="1F + 1B, all layers", magnitude=True)

    def __call__(self, model: nn.Module, images: Images, target: Target) -> Attribution:
        """The attribution of one target."""
        return self.attribute(model, images, (target,))[0]

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        """One attribution per target on the grid of the images, from one forward pass.

        Holds every biased layer's output and gradient at once.
        """
        refuse_unbatched(images)
        network = bare(model)
        rows = {row.name: row for row in trace(network, tuple(images.shape)).layers}
        norms = input_dependent(network)
        remark = (f"{', '.join(norms)} scale by their own input: the parts need not add up to the score",)
        with _watched(network) as biased, one_pass(model, images, targets, (Layer(""),)) as seen:
            return tuple(_explained(seen, score, biased, rows, remark if norms else ()) for score in seen.scores)


def _explained(
    seen: Pass, scores: Scores, biased: Sequence[Biased], rows: dict[str, LayerRow], remark: tuple[str, ...]
) -> Attribution:
    (image,) = seen.captured
    slope, *slopes = _gradients(scores, [image.output, *(one.output for one in biased)])
    if slope is None:
        slope = image.gradient(scores)  # raises: the score does not depend on the image
    share = image.output.detach() * slope
    parts = _Parts(_scaled(share.abs()).sum(1), _per_sample(share), _per_sample(share.abs()))
    for one, gradient in zip(biased, slopes, strict=True):
        if gradient is not None:
            _add(parts, one.bias * gradient, rows.get(one.name), tuple(seen.images.shape))
    scores = scores.detach()
    whole = torch.stack([scores.abs(), parts.sum.abs(), parts.placed]).amax(0).clamp(min=torch.finfo().tiny)
    error = (scores - parts.sum).abs() / whole
    notices = (*seen.remarks, *remark)
    if bool((error > _COMPLETE).any()):
        notices = (*notices, f"the parts miss the score by {float(error.max()):.0%} of their size")
    total = (parts.placed + parts.elsewhere).clamp(min=torch.finfo().tiny)
    return Attribution(
        parts.map,
        scores,
        judge(parts.map, parts.map, scores, parts.placed),
        "",
        notices,
        details={"completeness_error": error, "unplaced_share": parts.elsewhere / total},
    )


def _add(parts: _Parts, share: Tensor, row: LayerRow | None, image_shape: tuple[int, ...]) -> None:
    """Add what one layer's bias adds: drawn where the layer's cells have places, else only counted."""
    parts.sum = parts.sum + _per_sample(share, image_shape[0])
    size = _per_sample(share.abs(), image_shape[0])
    if row is None or row.footprint is None or not row.spatial:
        parts.elsewhere = parts.elsewhere + size
        return
    drawn = _scaled(row.layout.read(share).abs()).sum(1, keepdim=True)
    parts.map = parts.map + on_image(drawn, row.footprint, image_shape[2:])[:, 0]
    parts.placed = parts.placed + size


def _gradients(scores: Scores, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    if not scores.requires_grad:
        return [None] * len(tensors)
    ones = torch.ones_like(scores)
    return list(torch.autograd.grad(scores, tensors, ones, retain_graph=True, allow_unused=True))


def _per_sample(share: Tensor, batch: int | None = None) -> Scores:
    return share.reshape(batch or len(share), -1).sum(1)


def _scaled(maps: Features) -> Features:
    """Each channel's map from 0 at its lowest to 1 at its highest cell; one that is constant but for rounding is 0."""
    flat = maps.flatten(2)
    low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
    reach = (high - low).where(high - low > _ROUNDING * high, torch.inf)
    reach = torch.where(high.isnan(), torch.nan, reach)
    return ((flat - low) / reach).view_as(maps)


@contextmanager
def _watched(network: nn.Module) -> Iterator[list[Biased]]:
    """Record every call of a module that adds a bias, for the duration of the block."""
    found: list[Biased] = []

    def leaving(name: str, module: nn.Module, output: object) -> Tensor | None:
        bias = bias_of(module, output) if isinstance(output, Tensor) and output.requires_grad else None
        if bias is None or not isinstance(output, Tensor):
            return None
        found.append(Biased(name, output, bias))
        return output.clone()  # a later in-place operation may not touch what was recorded

    handles = [
        module.register_forward_hook(lambda module, _args, output, name=name: leaving(name, module, output))
        for name, module in network.named_modules()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


METHODS = (FullGrad,)
