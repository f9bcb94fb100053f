"""A bottleneck on the image itself, at the resolution of its voxels, guided by one at a layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

from torch import Tensor

from medxai.attribution.bottleneck.gan_prior import GanPrior, refuse_volumes
from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.search import Bottleneck
from medxai.attribution.passes import Pass
from medxai.core.layer import Footprint, Layer
from medxai.core.protocols import Attribution, Traits
from medxai.core.saliency import Status
from medxai.errors import UsageError
from medxai.model.capture import Captured
from medxai.model.footprint import sited
from medxai.model.place import on_image

Prior = Literal["latent", "gan"]
_IMAGE, _MOST, _LATENT = Layer(""), 1 - 1e-4, "latent "


@dataclass(frozen=True, kw_only=True)
class InputIBA(IBA):
    """Bits per voxel of the image that must pass for the score to stay, cheap where a bottleneck at `layer` is open.

    The KL that is paid is that of lambda x + (1 - lambda) e from lambda g x + (1 - lambda g) e. With `prior` "latent" g
    is the openness of the bottleneck `latent` at `layer`, the mean over the channels that are alive, laid on the voxels
    where its cells look; with "gan", for images in 2D, a GAN (settings `gan`) begins there and learns g for each image
    and target, as published. What is shown is all that passes, the KL from the noise alone, in bits (the paper shows
    lambda). The other settings are those of the bottleneck on the image: `sigma` in voxels, `statistics` of the layer
    "". Published: beta 20, rate 1, 60 steps. Source: Zhang et al. 2021.
    """

    traits: ClassVar[Traits] = Traits(
        reads="score", cost="1F + T n (suffix F + B) + T n (F + B)", shared=False, magnitude=True, random=True
    )
    latent: IBA = field(default_factory=IBA)
    prior: Prior = "latent"
    gan: GanPrior = field(default_factory=GanPrior)

    def __post_init__(self) -> None:
        IBA.__post_init__(self)
        if self.statistics and self.statistics.layer:
            raise UsageError(
                "The `statistics` of InputIBA itself are of the image.",
                expected="those of the image, layer ''",
                found=f"those of layer {self.statistics.layer!r}",
                remedy="Those of the layer go to latent=IBA(statistics=...); estimate(model, batches, '') makes these.",
            )
        if self.prior not in get_args(Prior):
            raise UsageError("There is no such prior.", expected=f"one of {get_args(Prior)}", found=repr(self.prior))
        if self.prior != "gan" and self.gan != GanPrior():
            raise UsageError(
                "No GAN learns this prior.",
                expected="prior='gan' with the settings of one",
                found=f"prior={self.prior!r}",
            )
        if self.latent.inverse:
            raise UsageError(
                "The prior is what passes a bottleneck, not what one removes.",
                expected="a `latent` that keeps the score, as IBA does",
                found=type(self.latent).__name__,
            )

    def in_voxels(self, spacing_mm: Callable[[], tuple[float, ...]]) -> "InputIBA":
        """The same method with the sigma_mm of both bottlenecks in voxels."""
        latent = self.latent.in_voxels(spacing_mm)
        return replace(self, latent=latent, sigma_voxels=self._in_voxels(spacing_mm), sigma_mm=None)

    def read(self, seen: Pass, captured: Captured) -> tuple[Attribution, ...]:
        return self.through(seen, (NoisyLayer.of(captured, self.latent.statistics),))

    def _held(self, seen: Pass, layers: Sequence[NoisyLayer], samples: range, seed: int) -> dict[str, Tensor]:
        if self.prior == "gan":
            refuse_volumes(seen.images)
        shape = tuple(seen.images.shape)
        whole = Footprint.of_image(shape[2:])
        image = NoisyLayer.of(Captured(replace(_IMAGE, footprint=whole), [seen.images]), self.statistics)
        (layer,) = sited(seen.network, (layers[0].layer,), shape)
        at_layer = Bottleneck.at(seen, layers, samples, seed)
        found, guide = self.latent.told(at_layer, self.latent.settings(layers[0], seen))
        openness = on_image(at_layer.openness(found.gate), layer.footprint or whole, shape[2:])
        if self.prior == "gan":
            room = self.settings(layers[0], seen).at_once
            openness = self.gan.refined(at_layer, found.gate, openness, image.among(samples), room)
        neck = Bottleneck.at(seen, (image,), samples, seed)
        neck = replace(neck, known=openness.clamp(max=_MOST), guide=found.stakes)
        told = self.told(neck, self.settings(image, seen))[1]
        return told | {_LATENT + name: values for name, values in guide.items()}

    def _attribution(self, seen: Pass, layer: Layer, told: dict[str, Tensor]) -> Attribution:
        """Degenerate, first of all, where the bottleneck at the layer is; its details stand beside the image's."""
        maps = told.pop(f"{_LATENT}map")
        guide = {name.removeprefix(_LATENT): values for name, values in told.items() if name.startswith(_LATENT)}
        found = super()._attribution(seen, replace(_IMAGE, notices=layer.notices), told)
        at_layer, named = self.latent.judged(maps, guide), f"the bottleneck at layer {layer.name!r}: "
        status = tuple(
            one if other.ok or other == one else Status(named + other.reason)
            for one, other in zip(found.status, at_layer, strict=True)
        )
        further = (named + one for one in (*self.latent.unsmoothed(layer, seen), *self.latent.advice(at_layer, guide)))
        return replace(found, status=status, notices=(*found.notices, *further))


METHODS = (InputIBA,)
