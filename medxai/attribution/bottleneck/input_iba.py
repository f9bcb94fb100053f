"""A bottleneck on the image itself, at the resolution of its voxels, guided by one at a layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.search import Bottleneck
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

    def in_voxels(self, spacing_mm: Callable[[], tuple[float, ...]]) -> "InputIBA":
        """The same method with the sigma_mm of both bottlenecks in voxels."""
        latent = self.latent.in_voxels(spacing_mm)
        return replace(self, latent=latent, sigma_voxels=self._in_voxels(spacing_mm), sigma_mm=None)

    def read(self, seen: Pass, captured: Captured) -> tuple[Attribution, ...]:
        return self.through(seen, (NoisyLayer.of(captured, self.latent.statistics),))

    def _held(self, seen: Pass, layers: Sequence[NoisyLayer], samples: range, seed: int) -> dict[str, Tensor]:
        shape = tuple(seen.images.shape)
        whole = Footprint.of_image(shape[2:])
        image = NoisyLayer.of(Captured(replace(_IMAGE, footprint=whole), [seen.images]), self.statistics)
        (layer,) = sited(seen.network, (layers[0].layer,), shape)
        latent, _ = self.latent.searched(
            Bottleneck.at(seen, layers, samples, seed), self.latent.settings(layers[0], seen)
        )
        openness = latent.gate.openness.mean(1, keepdim=True)
        known = on_image(openness, layer.footprint or whole, shape[2:]).clamp(max=_MOST)
        neck = replace(Bottleneck.at(seen, (image,), samples, seed), known=known)
        return self._told(neck, self.settings(image, seen))

    def _attribution(self, seen: Pass, layer: Layer, told: dict[str, Tensor]) -> Attribution:
        return super()._attribution(seen, replace(_IMAGE, notices=layer.notices), told)


METHODS = (InputIBA,)
