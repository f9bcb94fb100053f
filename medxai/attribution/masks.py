"""Masks made of a layer's channels, laid on the image; what they cover fades to a baseline."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from medxai.attribution.masking import Asked, Sweeping
from medxai.core.layer import Layer
from medxai.errors import UsageError
from medxai.model.place import on_image, stretched
from medxai.shapes import Features, Images

Masks = Float[Tensor, "n 1 *s"]
Placement = Literal["footprint", "interpolate"]
_ROUNDING = 1e-6


def between_0_and_1(A: Features) -> tuple[Features, Tensor]:
    """(A - min) / (max - min) of each channel (1, k, *m), and the numbers of the channels that are not constant.

    A constant channel masks everything: its mask is 0. What varies by less than float32 rounding is constant.
    """
    cells = A.flatten(2)
    low, high = cells.amin(2, keepdim=True), cells.amax(2, keepdim=True)
    varies = high - low > _ROUNDING * cells.abs().amax(2, keepdim=True)
    masks = torch.where(varies, (cells - low) / torch.where(varies, high - low, 1.0), 0.0)  # no NaN in the gradient
    return masks.view_as(A), varies.flatten().nonzero()[:, 0]


@dataclass(frozen=True, eq=False, slots=True)
class Fading:
    """image -> baseline + mask * (image - baseline), with a mask per voxel: 1 keeps, 0 fades."""

    image: Images
    baseline: Tensor
    layer: Layer
    placement: Placement
    notices: tuple[str, ...]

    def placed(self, cells: Features) -> Masks:
        """Masks (1, n, *m) of the layer's cells as masks (n, 1, *s) of the image's voxels."""
        shape, masks = tuple(self.image.shape[2:]), cells.movedim(1, 0)
        if self.placement == "interpolate" or not self.layer.footprint:
            return stretched(masks, shape)
        return on_image(masks, self.layer.footprint, shape)

    def __call__(self, masks: Masks) -> Images:
        """One image per mask (n, 1, *s)."""
        return torch.lerp(self.baseline, self.image, masks)

    @property
    def empty(self) -> Images:
        """The image faded altogether."""
        return self.baseline.expand_as(self.image)


@dataclass(frozen=True, kw_only=True)
class Masking(Sweeping):
    """A sweep whose changed images are the image seen through masks of a layer's cells.

    `placement` "footprint" lays each cell where its receptive field is centred, "interpolate" stretches the cells over
    the image as published code does. What a mask covers fades to `baseline`, in the network's own intensity, one value
    or one per channel of the image: for CT pick air after the recipe's normalisation.
    """

    placement: Placement = "footprint"
    baseline: float | tuple[float, ...] = 0.0

    def fading(self, asked: Asked, layer: Layer) -> Fading:
        """The image that is asked about, ready to be seen through masks of `layer`."""
        baseline = baseline_like(self.baseline, asked.image)
        return Fading(asked.image, baseline, layer, self.placement, foreign(baseline, asked.seen.images))


def baseline_like(values: float | tuple[float, ...], images: Images) -> Tensor:
    """The baseline as (1, c, 1, ...). Raises UsageError where it has another number of channels than the images."""
    channels = images.shape[1]
    each = values if isinstance(values, tuple) else (values,) * channels
    if len(each) != channels:
        raise UsageError(
            "The baseline is one value, or one per channel of the image.",
            expected=f"{channels} values",
            found=f"{len(each)}",
        )
    return images.new_tensor(each).view(1, channels, *[1] * (images.ndim - 2))


def foreign(baseline: Tensor, images: Images) -> tuple[str, ...]:
    """A sentence per channel whose baseline lies outside the images' intensities by over a tenth of their range."""
    voxels, value = images.transpose(0, 1).flatten(1), baseline.flatten()
    low, high = voxels.amin(1), voxels.amax(1)
    slack = (high - low) / 10
    outside = ((value < low - slack) | (value > high + slack)).nonzero()[:, 0].tolist()
    return tuple(
        f"masked voxels fade to {float(value[c]):g}, outside the intensities of channel {c}, {float(low[c]):g} to "
        f"{float(high[c]):g}: the network may never have seen it; set `baseline`"
        for c in outside
    )
