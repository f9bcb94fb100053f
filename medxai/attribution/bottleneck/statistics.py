"""What the features of a layer look like over a cohort: the noise of a bottleneck is drawn from it."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from medxai.attribution.passes import refuse_unbatched
from medxai.core.layer import Layer
from medxai.errors import InputError, ModelError, NonFiniteError, UsageError
from medxai.model.capture import capture
from medxai.model.guard import untouched
from medxai.model.layers import look_up
from medxai.shapes import Features

Kind = Literal["element", "channel"]
_FLOOR = 0.01
_FROM_A_LOADER = (
    'Pick them out of what a loader gives: (batch["image"] for batch in loader), or (x for x, _ in loader).'
)


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Mean, standard deviation and activity of one layer's features over `count` images.

    Per "element" they have the shape (k, *m) of the layer's map; per "channel" (k, 1, ...), for images of any size.
    `active` is the share of images in which a feature, per "channel" at any position, is not zero.
    """

    mean: Tensor
    std: Tensor
    active: Tensor
    count: int
    kind: Kind
    layer: str

    @property
    def digest(self) -> str:
        """A sha256 of the numbers."""
        parts = (self.mean, self.std, self.active)
        numbers = b"".join(part.detach().cpu().contiguous().numpy().tobytes() for part in parts)
        return hashlib.sha256(numbers).hexdigest()

    @property
    def spread(self) -> Tensor:
        """The standard deviation, at least 0.01: that of the noise."""
        return self.std.clamp(min=_FLOOR)

    @property
    def alive(self) -> Tensor:
        """1 where the feature is ever active, else 0: dead features carry nothing."""
        return (self.active > _FLOOR).to(self.std)

    def normal(self, features: Features) -> Features:
        """r = (R - mu) / sigma."""
        return (features - self.mean) / self.spread

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureStatistics) and (self.digest, str(self)) == (other.digest, str(other))

    def __hash__(self) -> int:
        return hash((self.digest, str(self)))

    def __repr__(self) -> str:
        return f"FeatureStatistics({self.layer}, per {self.kind}, {self.count} images, sha256 {self.digest[:16]})"

    def fits(self, features: Features) -> "FeatureStatistics":
        """Itself, on the device of `features`.

        Raises InputError where its shape is not theirs, and NonFiniteError where a number of it is none.
        """
        wanted = (
            tuple(features.shape[1:]) if self.kind == "element" else (features.shape[1],) + (1,) * (features.ndim - 2)
        )
        if tuple(self.mean.shape) != wanted:
            raise InputError(
                "These statistics are of another layer or of images of another size.",
                expected=f"shape {wanted} (per {self.kind})",
                found=f"{tuple(self.mean.shape)}, of layer {self.layer!r}",
                remedy="Estimate them for this layer, with kind='channel' where images differ in size.",
            )
        mean, std, active = parts = [part.to(features) for part in (self.mean, self.std, self.active)]
        _refuse_non_finite(f"The statistics of layer {self.layer!r}", torch.cat([part.flatten() for part in parts]))
        return FeatureStatistics(mean, std, active, self.count, self.kind, self.layer)

    def to_bytes(self) -> bytes:
        """A safetensors file, for `medxai.io.write.write_file`."""
        facts = {"count": str(self.count), "kind": self.kind, "layer": self.layer}
        parts = {"mean": self.mean, "std": self.std, "active": self.active}
        return save({name: part.contiguous() for name, part in parts.items()}, facts)

    @classmethod
    def read(cls, path: str | Path) -> "FeatureStatistics":
        """The file of `to_bytes`. Raises InputError for another kind of file."""
        try:
            with safe_open(str(path), "pt") as opened:
                facts, mean, std, active = opened.metadata(), *(opened.get_tensor(n) for n in ("mean", "std", "active"))
            kind: Kind = "element" if facts["kind"] == "element" else "channel"
            return cls(mean, std, active, int(facts["count"]), kind, facts["layer"])
        except Exception as error:
            raise InputError(f"{path} holds no feature statistics.", found=str(error)) from error


def refuse_shared(own: FeatureStatistics | None, each: Sequence[FeatureStatistics], layers: Sequence[object]) -> None:
    """Raises UsageError where several layers do not have noise of their own, or none of them has."""
    if own or (each and len(each) != len(layers)):
        raise UsageError(
            "Every layer has its own noise.",
            expected="as many `statistics` as there are names in `layers`, or none, and none in `method`",
            found=f"{len(each)} for {len(layers)} layers, method {own}",
        )


def noise_of(features: Features, statistics: FeatureStatistics | None, layer: Layer) -> FeatureStatistics:
    """What the noise of one image looks like: as `statistics`, which must fit, or else as its own features.

    Raises UsageError for statistics that name another layer.
    """
    if statistics is None:
        return of_one_image(features)
    if statistics.layer not in {"", layer.name}:
        raise UsageError(
            "These statistics are of another layer.",
            expected=f"those of layer {layer.name!r}" if layer.name else "those of the image, layer ''",
            found=f"those of layer {statistics.layer!r}",
            remedy="Estimate them for this layer; of several layers they stand in the order of `layers`.",
        )
    return statistics.fits(features)


def of_one_image(features: Features) -> FeatureStatistics:
    """The data-free mode: zero mean, and each channel's own root mean square over the positions of one image.

    With a channel's own mean instead, noise would leave every average over positions, and so the score of a pooled
    head, as it was.
    """
    axes = list(range(2, features.ndim))
    std = (features**2).mean(axes, keepdim=True).sqrt()[0]
    active = (features != 0).any(axes, keepdim=True)[0].to(std)
    return FeatureStatistics(torch.zeros_like(std), std, active, 1, "channel", "")


def _refuse_non_finite(what: str, values: Tensor) -> None:
    finite = values.isfinite()
    if not bool(finite.all()):
        raise NonFiniteError(
            f"{what} are not finite.",
            expected="numbers alone",
            found=f"{int((~finite).sum())} of {finite.numel()} NaN or infinite",
            remedy="Leave out such images, or check the intensity range of the recipe, and the weights.",
        )


def _watched(batches: Iterable[Tensor]) -> Iterable[Tensor]:
    from rich.console import Console
    from rich.progress import track

    return track(batches, "features of the cohort", console=Console(stderr=True))


def estimate(
    model: nn.Module,
    batches: Iterable[Tensor],
    layer: str | Layer = "auto",
    kind: Kind = "channel",
    *,
    progress: bool = False,
) -> FeatureStatistics:
    """Mean, standard deviation and activity of `layer` over all images of `batches`, in one stable pass.

    Welford's update: M' = M + (x - mean)(x - mean'). `progress` draws a bar of the batches on stderr. Raises ModelError
    for fewer than two samples, and where images of different sizes are asked for per element; NonFiniteError where
    images or features are not finite; UsageError where a batch is no tensor (n, channel, *space).
    """
    count, samples = 0, 0
    total, spread, active = torch.zeros(()), torch.zeros(()), torch.zeros(())
    if isinstance(batches, Tensor):
        raise UsageError(
            "One tensor is no series of batches.",
            expected="an iterable of tensors (n, channel, *space)",
            found=f"a tensor {tuple(batches.shape)}",
            remedy="Give [images], or images.split(8).",
        )
    for number, images in enumerate(_watched(batches) if progress else batches):
        refuse_unbatched(images, _FROM_A_LOADER)
        _refuse_non_finite(f"The images of batch {number}, counted from 0,", images)
        with untouched(model, images.device) as network:
            layer = look_up(network, layer, tuple(images.shape))
            with capture(network, layer) as captured:
                network(images.detach().float())
            features = captured.activation.detach().double()
        _refuse_non_finite(f"The features of layer {str(layer)!r} in batch {number}, counted from 0,", features)
        axes = [0] if kind == "element" else [0, *range(2, features.ndim)]
        n = features.numel() // features[0].numel() if kind == "element" else features.numel() // features.shape[1]
        if samples and kind == "element" and total.shape != features.shape[1:]:
            raise ModelError(
                "Statistics per element need images of one size.",
                expected=f"features {tuple(total.shape)}",
                found=f"{tuple(features.shape[1:])}",
                remedy="Use kind='channel'.",
            )
        mean, alive = features.mean(axes, keepdim=True)[0], (features != 0).any(axes[1:], keepdim=True).double().mean(0)
        within = ((features - mean) ** 2).sum(axes, keepdim=True)[0]
        difference = mean - total
        weight = n / (samples + n)
        spread = spread + within + difference**2 * samples * weight
        total, active = total + difference * weight, active + (alive - active) * len(images) / (count + len(images))
        samples, count = samples + n, count + len(images)
    if samples < 2:
        raise ModelError("Statistics need at least two samples.", found=f"{samples} of {count} images")
    std = (spread / (samples - 1)).sqrt()
    return FeatureStatistics(total.float().cpu(), std.float().cpu(), active.float().cpu(), count, kind, str(layer))
