"""A bottleneck on the image itself, at the resolution of its voxels, guided by one at a layer."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.search import Bottleneck, Settings
from medxai.attribution.passes import Pass
from medxai.core.layer import Footprint, Layer
from medxai.core.protocols import Attribution, Traits
from medxai.model.capture import Captured
from medxai.model.footprint import sited
from medxai.model.place import on_image

_IMAGE, _MOST = Layer(""), 1 - 1e-4


@dataclass(frozen=True, kw_only=True)
class InputIBA(IBA):
    """Bits per voxel of the image that must pass for the score to stay, cheap where a bottleneck at `layer` is open.

    The KL that is paid is that of lambda x + (1 - lambda) e from lambda g x + (1 - lambda g) e, with g the openness of
    the bottleneck `latent` at `layer`, the mean of its channels, laid on the voxels where its cells look. What is shown
    is all that passes, the KL from the noise alone, in bits (the paper shows lambda). The other settings are those of
    the bottleneck on the image: `sigma` in voxels, `statistics` of the layer "". Published: beta 20, rate 1, 60 steps,
    and a g that a GAN learns for each image. Source: Zhang et al. 2021.
    """

    traits: ClassVar[Traits] = Traits(
        reads="score", cost="1F + T n (suffix F + B) + T n (F + B)", shared=False, magnitude=True, random=True
    )
    latent: IBA = field(default_factory=IBA)

    def in_cells(self, cell_mm: Callable[[], tuple[float, ...]]) -> "InputIBA":
        """The same method with the sigma of `latent` in cells, and its own in voxels."""
        latent, own = self.latent.in_cells(cell_mm), self.sigma
        if self.sigma_mm is not None and isinstance(self.layer, Layer) and self.layer.footprint:
            cells = zip(cell_mm(), self.layer.footprint.jump, strict=True)
            own = tuple(self.sigma_mm * jump / size for size, jump in cells)
        return replace(self, latent=latent, sigma=own, sigma_mm=None)

    def _held(self, seen: Pass, captured: Captured, samples: range, seed: int, settings: Settings) -> dict[str, Tensor]:
        shape = tuple(seen.images.shape)
        (layer,) = sited(seen.network, (captured.layer,), shape)
        at_layer = Bottleneck.at(seen, captured, samples, self.latent.known, seed)
        latent, _ = self.latent.searched(at_layer, self.latent.settings(captured.activation, seen.images))
        openness = latent.gate.openness.mean(1, keepdim=True)
        place = layer.footprint or Footprint.of_image(shape[2:])
        known = on_image(openness, place, shape[2:]).clamp(max=_MOST)
        image = Bottleneck.at(seen, Captured(_IMAGE, [seen.images]), samples, self.known, seed)
        return self._told(replace(image, known=known), settings)

    def _attribution(self, seen: Pass, captured: Captured, told: dict[str, Tensor]) -> Attribution:
        image = replace(_IMAGE, notices=captured.layer.notices)
        return super()._attribution(seen, Captured(image, [seen.images]), told)


METHODS = (InputIBA,)
