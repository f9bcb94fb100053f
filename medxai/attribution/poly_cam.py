"""Poly-CAM: the map of a deep layer, sharpened by the masking maps of the layers before it."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

import torch

from medxai.attribution.cam import LayerMethod
from medxai.attribution.combined import Combination, Placed
from medxai.attribution.masking import Asked, Swept, moved
from medxai.attribution.masks import Masking, Placement, between_0_and_1
from medxai.core.layer import Footprint, Layer
from medxai.core.protocols import Traits
from medxai.model.place import on_cells, on_image
from medxai.model.scoring import Link
from medxai.shapes import Features, Maps

Polarity = Literal["+", "-", "+-"]
_NEGLIGIBLE = 1e-8


@dataclass(frozen=True, kw_only=True)
class PolyMap(Masking):
    """The map of one layer in Poly-CAM; see there."""

    traits: ClassVar[Traits] = Traits(reads="score", cost="K F, 2 K F for +-")
    polarity: Polarity = "+"

    def sweep(self, asked: Asked, A: Features, layer: Layer) -> Swept:
        fading = self.fading(asked, layer)
        cells, live = between_0_and_1(A)
        nothing, whole = asked(fading.empty), asked(asked.image)
        gained = torch.zeros_like(nothing).repeat(1, A.shape[1])
        for channels in self.portions(live, *asked.image.shape):
            masks = fading.placed(cells[:, channels])
            if "+" in self.polarity:
                gained[:, channels] += asked(fading(masks)) - nothing
            if "-" in self.polarity:
                gained[:, channels] += whole - asked(fading(1 - masks))
        reaction = moved(gained + whole, whole[:, 0])
        return Swept(gained.relu(), reaction, {"masks": float(len(live))}, fading.notices)


@dataclass(frozen=True, kw_only=True)
class PolyCAM(Combination):
    """P_L = M_L at the deepest layer, then P_l = M_l / local mean of M_l * P_{l+1} (Englebert et al. 2024).

    M_l = relu(sum_k w_k A_k) with masks m_k as in Score-CAM. For `polarity` "+" w_k = [y(x m_k) - y_0]+, what the
    channel restores to an image that shows nothing; for "-" w_k = [y(x) - y(x (1 - m_k))]+, what its loss takes away;
    for "+-" the positive part of their sum. The local mean is that over the cells of layer l + 1, so that a shallow
    layer sharpens a deep one without outweighing it. The layers are ordered by the distance of their cells;
    of those on one grid the last given is the deepest.
    Published code scores probabilities (link="softmax"), leaves out y_0 and scales masks by the 0.1 and 99.9
    percentiles; ours explain any score, of which y_0 may be a large part, and scale by minimum and maximum.
    """

    traits: ClassVar[Traits] = Traits(reads="score", cost="K F per layer, 2 K F for +-")
    polarity: Polarity = "+"
    placement: Placement = "footprint"
    baseline: float | tuple[float, ...] = 0.0
    link: Link = "identity"
    voxels: int = 2**21

    @property
    def base(self) -> LayerMethod:
        return PolyMap(
            polarity=self.polarity,
            placement=self.placement,
            baseline=self.baseline,
            link=self.link,
            voxels=self.voxels,
        )

    def scaled(self, maps: Maps) -> Maps:
        return maps

    def fused(self, maps: Placed, places: tuple[Footprint, ...]) -> Maps:
        deepest, *others = sorted(range(len(maps)), key=lambda layer: (prod(places[layer].jump), layer), reverse=True)
        result, coarse = maps[deepest], places[deepest]
        for layer in others:
            result, coarse = _relief(maps[layer], coarse) * result, places[layer]
        return result


def _relief(maps: Maps, coarse: Footprint) -> Maps:
    """The map (b, *s), nowhere negative, divided by its local mean over the cells of a coarser layer; 0 / 0 is 0."""
    shape = tuple(maps.shape[1:])
    mean = on_image(on_cells(maps[:, None], coarse), coarse, shape)[:, 0]
    floor = _NEGLIGIBLE * maps.flatten(1).amax(1).view(-1, *[1] * len(shape))
    return torch.where(mean > floor, maps / mean, 0.0)


METHODS = (PolyCAM,)
