"""Bottlenecks at several layers in one map: the first says where exactly, the deeper ones what belongs there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.statistics import FeatureStatistics, refuse_shared
from medxai.attribution.combined import Combination, Placed
from medxai.core.layer import Footprint
from medxai.core.protocols import Attribution, Traits
from medxai.core.saliency import Status
from medxai.core.target import Target
from medxai.errors import UsageError
from medxai.shapes import Images, Maps

_EMPTY = "no voxel exceeds the threshold"


@dataclass(frozen=True, kw_only=True)
class MultiLayerIBA(Combination):
    """Bits per voxel of the first layer where every further layer has its share, or a sum of all layers' shares.

    "product" is m_1 prod_l 1[m_l > threshold u_l], with u_l = ||m_l||_2 / sqrt(N) the value that a uniform map of the
    same norm has in each of the N voxels; "sum" is sum_l w_l m_l / ||m_l||_2, which has no unit, w_l = 1 without
    `weights`. The maps m_l of `method`, one bottleneck for each layer, are laid on the image before; `statistics` of
    every layer, or of none, say what the noise looks like. Source: Khakzar et al. 2021, who use the ends of the first
    three dense blocks and a threshold of 1.34 u for images of 224 x 224.
    """

    traits: ClassVar[Traits] = Traits(
        reads="score", cost="1F + T n (suffix F + B) per layer", shared=False, magnitude=True, random=True
    )
    method: IBA = field(default_factory=IBA)
    join: Literal["product", "sum"] = "product"
    threshold: float = 1.34
    weights: tuple[float, ...] = ()
    statistics: Sequence[FeatureStatistics] = ()

    def __post_init__(self) -> None:
        Combination.__post_init__(self)
        object.__setattr__(self, "statistics", tuple(self.statistics))
        refuse_shared(self.method.statistics, self.statistics, self.layers)
        if self.weights and (self.join == "product" or len(self.weights) != len(self.layers)):
            raise UsageError(
                "Only a sum weighs its layers, and each has one weight.",
                expected="join='sum', and as many weights as there are names in `layers`",
                found=f"join={self.join!r}, weights {self.weights} for {len(self.layers)} layers",
            )

    @property
    def base(self) -> IBA:
        return self.method

    def at(self, place: int) -> IBA:
        """The bottleneck of that layer."""
        return replace(self.method, statistics=self.statistics[place]) if self.statistics else self.method

    def in_voxels(self, spacing_mm: Callable[[], tuple[float, ...]]) -> "MultiLayerIBA":
        """The same with the sigma_mm of `method` in voxels."""
        return replace(self, method=self.method.in_voxels(spacing_mm))

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        found = super().attribute(model, images, targets)
        return tuple(_told(one) for one in found) if self.join == "product" else found

    def scaled(self, maps: Maps) -> Maps:
        return maps

    def fused(self, maps: Placed, places: tuple[Footprint, ...]) -> Maps:
        if self.join == "sum":
            weights = maps.new_tensor(self.weights or [1.0] * len(maps)).view(-1, *[1] * (maps.ndim - 1))
            return (weights * maps / _norms(maps).clamp(min=torch.finfo(maps.dtype).tiny)).sum(0)
        uniform = _norms(maps) / prod(maps.shape[2:]) ** 0.5
        kept = (maps > self.threshold * uniform)[1:].all(0)
        return (maps[0] / prod(places[0].jump)).masked_fill(~kept, 0)


def _told(product: Attribution) -> Attribution:
    """With the bits of the map, and in plain words where the threshold left none of it."""
    status = tuple(Status(_EMPTY) if one.reason == "zero map" else one for one in product.status)
    details = {"bits": product.maps.flatten(1).sum(1), **product.details}
    return replace(product, status=status, amount="bits", details=details)


def _norms(maps: Placed) -> Tensor:
    """||m_l||_2 of each sample, (l, b, 1, ...)."""
    norms: Tensor = torch.linalg.vector_norm(maps.flatten(2), dim=2)
    return norms.view(*norms.shape, *[1] * (maps.ndim - 2))


METHODS = (MultiLayerIBA,)
