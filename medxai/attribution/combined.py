"""Several layers in one map: each laid on the image by its own footprint, combined there, from one clean pass."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medxai.attribution.cam import LayerMethod
from medxai.attribution.gradient_cams import GradCAM, GradCAMPlusPlus, LayerCAM
from medxai.attribution.passes import Pass, one_pass, refuse_unbatched
from medxai.attribution.status import judge
from medxai.core.layer import Footprint, Layer
from medxai.core.protocols import Attribution, Traits
from medxai.core.saliency import Status
from medxai.core.target import Target
from medxai.errors import UsageError
from medxai.model.capture import Captured
from medxai.model.footprint import sited
from medxai.model.layers import stages
from medxai.model.place import on_image
from medxai.model.trace import trace
from medxai.shapes import Images, Maps

Placed = Float[Tensor, "l b *s"]


ALONE = "a method that combines several layers saw only one: name more in `layers`"


@dataclass(frozen=True, kw_only=True)
class LayersMethod(ABC):
    """A method whose maps come of several layers of one pass: subclasses read them.

    Where no `layers` are named ("auto"), they are the last on each grid, up to the one that "auto" means alone.
    """

    layers: Sequence[str | Layer] = ()

    def __post_init__(self) -> None:
        named = (self.layers,) if isinstance(self.layers, str) else tuple(self.layers)
        object.__setattr__(self, "layers", () if named == ("auto",) else named)

    @property
    @abstractmethod
    def base(self) -> LayerMethod:
        """The method that is asked of the layers."""

    @abstractmethod
    def read(self, seen: Pass, captured: Sequence[Captured]) -> tuple[Attribution, ...]:
        """One attribution per target of the pass; each captured layer knows its footprint."""

    def __call__(self, model: nn.Module, images: Images, target: Target) -> Attribution:
        """The attribution of one target."""
        return self.attribute(model, images, (target,))[0]

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        """One attribution per target, from one clean forward pass for all layers."""
        refuse_unbatched(images)
        graph = self.base.traits.reads == "gradient"
        named = self.layers or stages(trace(model, tuple(images.shape)))
        with one_pass(model, images, targets, named, graph=graph) as seen:
            layers = sited(seen.network, tuple(one.layer for one in seen.captured), tuple(images.shape))
            captured = [replace(one, layer=layer) for one, layer in zip(seen.captured, layers, strict=True)]
            return self.read(seen, captured)


@dataclass(frozen=True, kw_only=True)
class Combination(LayersMethod):
    """The maps of one method at several layers, scaled at their own resolution, laid on the image and fused there.

    The result lies on the image's voxels. A layer's map that says nothing counts as 0, and a notice names the layer.
    """

    traits: ClassVar[Traits] = Traits(cost="1F + 1B per layer")

    @abstractmethod
    def scaled(self, maps: Maps) -> Maps:
        """The maps of one layer on the scale that the fusion needs."""

    @abstractmethod
    def fused(self, maps: Placed, places: tuple[Footprint, ...]) -> Maps:
        """One map of the scaled maps of all layers, first layer first; `places` is where their cells look."""

    def at(self, _place: int) -> LayerMethod:
        """What the layer at that place in `layers` is asked with."""
        return self.base

    def read(self, seen: Pass, captured: Sequence[Captured]) -> tuple[Attribution, ...]:
        found = [self.at(place).read(seen, one) for place, one in enumerate(captured)]
        return tuple(self._combined(of_layers, seen.images) for of_layers in zip(*found, strict=True))

    def _combined(self, found: Sequence[Attribution], images: Images) -> Attribution:
        shape = tuple(images.shape[2:])
        own = tuple(one.footprint or Footprint.of_image(shape) for one in found)
        placed = [
            on_image(self.scaled(_told(one))[:, None], place, shape)[:, 0]
            for one, place in zip(found, own, strict=True)
        ]
        maps, scores = self.fused(torch.stack(placed), own), found[0].scores
        alone = zip(*(one.status for one in found), strict=True)
        together = judge(maps, maps, scores)
        lonely = (ALONE,) if len(found) == 1 else ()
        return Attribution(
            maps,
            scores,
            tuple(_status(*both) for both in zip(together, alone, strict=True)),
            "",
            tuple(dict.fromkeys((*lonely, *(n for one in found for n in (*one.notices, *_silent(one)))))),
            details={f"{name} of {one.layer}": values for one in found for name, values in one.details.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Combined(Combination):
    """Layer maps divided by their largest magnitude, then their weighted mean, product or maximum.

    "mean" is sum_l w_l m_l / sum_l w_l; "product" is prod_l [m_l]+^w_l, which keeps what every layer supports; "max" is
    max_l w_l m_l. Without `weights` each layer weighs 1. NormGrad multiplies its layers so (Rebuffi et al. 2020).
    """

    method: LayerMethod = field(default_factory=GradCAM)
    how: Literal["mean", "product", "max"] = "mean"
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        Combination.__post_init__(self)
        if self.weights and (len(self.weights) != len(self.layers) or min(self.weights) < 0 or not any(self.weights)):
            raise UsageError(
                "Every layer has one weight, none of them negative and not all of them 0.",
                expected="as many weights as there are names in `layers`",
                found=f"weights {self.weights} for {len(self.layers)} layers",
            )

    @property
    def base(self) -> LayerMethod:
        return self.method

    def scaled(self, maps: Maps) -> Maps:
        peak = maps.abs().flatten(1).amax(1).view(-1, *[1] * (maps.ndim - 1))
        return torch.where(peak > 0, maps / peak, maps)

    def fused(self, maps: Placed, _places: tuple[Footprint, ...]) -> Maps:
        weights = maps.new_tensor(self.weights or [1.0] * len(maps)).view(-1, *[1] * (maps.ndim - 1))
        if self.how == "product":
            return (maps.relu() ** weights).prod(0)
        if self.how == "max":
            return (weights * maps).amax(0)
        return (weights * maps).sum(0) / weights.sum()


@dataclass(frozen=True, kw_only=True)
class LayerCAMFusion(Combination):
    """max_l tanh(gamma * m_l) of LayerCAM maps m_l, each between 0 and 1 (Jiang et al. 2021).

    The tanh lifts what shallow layers find, which is sharp and faint.
    """

    gamma: float = 2.0

    @property
    def base(self) -> LayerMethod:
        return LayerCAM()

    def scaled(self, maps: Maps) -> Maps:
        return (self.gamma * between_0_and_1(maps)).tanh()

    def fused(self, maps: Placed, _places: tuple[Footprint, ...]) -> Maps:
        return maps.amax(0)


@dataclass(frozen=True, kw_only=True)
class RefineCAM(Combination):
    """prod_l m_l of Grad-CAM++ maps m_l, each between 0 and 1: deep layers say what, shallow ones say where exactly.

    A voxel that any layer leaves at its minimum is 0. As in torchcam 0.5; the base method may be any other.
    """

    method: LayerMethod = field(default_factory=GradCAMPlusPlus)

    @property
    def base(self) -> LayerMethod:
        return self.method

    def scaled(self, maps: Maps) -> Maps:
        return between_0_and_1(maps)

    def fused(self, maps: Placed, _places: tuple[Footprint, ...]) -> Maps:
        return maps.prod(0)


def between_0_and_1(maps: Maps) -> Maps:
    """(m - min) / (max - min) of each sample; 0 where the map is constant."""
    low = maps.flatten(1).amin(1).view(-1, *[1] * (maps.ndim - 1))
    high = maps.flatten(1).amax(1).view(-1, *[1] * (maps.ndim - 1))
    return torch.where(high == low, 0.0, (maps - low) / (high - low))


def _told(found: Attribution) -> Maps:
    """The maps, 0 where finite but degenerate: rounding noise must not be scaled up."""
    silent = torch.tensor([not status.ok for status in found.status], device=found.maps.device)
    silent = silent & found.maps.flatten(1).isfinite().all(1)
    return found.maps.masked_fill(silent.view(-1, *[1] * (found.maps.ndim - 1)), 0)


def _status(together: Status, alone: Sequence[Status]) -> Status:
    """Where every layer says nothing, the reason of the last and deepest; else that of the combined map, if any."""
    return together if any(status.ok for status in alone) else alone[-1]


def _silent(found: Attribution) -> tuple[str, ...]:
    reasons = dict.fromkeys(status.reason for status in found.status if not status.ok)
    return tuple(f"layer {found.layer!r} counts as 0: {reason}" for reason in reasons)


METHODS = (Combined, LayerCAMFusion, RefineCAM)
