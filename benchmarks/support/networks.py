"""The architectures that the support table is about, as small as their families allow, in two and three dimensions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from monai.networks.nets import (
    DenseNet121,
    EfficientNetBN,
    SegResNet,
    SEResNet50,
    SwinUNETR,
    UNet,
    ViT,
    resnet18,
)
from torch import Tensor, nn

from medxai.core.target import ClassScore, RegionScore, Target

CLASSES = 3


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a network is built, the side of its image, and what is asked of it."""

    name: str
    build: Callable[[int], nn.Module]
    side: int
    segments: bool = False

    def network(self, ndim: int) -> nn.Module:
        """Random weights, the same each time, in training mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build(ndim)

    def images(self, ndim: int, batch: int = 1) -> Tensor:
        """Noise, the same each time."""
        return torch.rand(batch, 1, *[self.side] * ndim, generator=torch.Generator().manual_seed(1))

    def target(self, ndim: int) -> Target:
        """One class, or for a network that segments one class's logits in a corner of the image."""
        if not self.segments:
            return ClassScore(1)
        region = torch.zeros([self.side] * ndim, dtype=torch.bool)
        region[(slice(4, self.side // 2),) * ndim] = True
        return RegionScore(1, region)


class _FirstOutput(nn.Module):
    """A network that answers (logits, hidden states), reduced to its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)[0]
        return logits


def _vit(ndim: int) -> nn.Module:
    return _FirstOutput(
        ViT(
            1,
            32,
            8,
            hidden_size=48,
            mlp_dim=96,
            num_layers=3,
            num_heads=4,
            classification=True,
            num_classes=CLASSES,
            spatial_dims=ndim,
        )
    )


def _unet(ndim: int) -> nn.Module:
    return UNet(ndim, 1, CLASSES, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)


ARCHITECTURES = (
    Architecture("DenseNet121", lambda n: DenseNet121(n, 1, CLASSES), 64),
    Architecture("ResNet18", lambda n: resnet18(spatial_dims=n, n_input_channels=1, num_classes=CLASSES), 64),
    Architecture("SEResNet50", lambda n: SEResNet50(spatial_dims=n, in_channels=1, num_classes=CLASSES), 64),
    Architecture(
        "EfficientNet-B0",
        lambda n: EfficientNetBN(
            "efficientnet-b0", pretrained=False, spatial_dims=n, in_channels=1, num_classes=CLASSES
        ),
        64,
    ),
    Architecture("ViT", _vit, 32),
    Architecture("UNet", _unet, 32, segments=True),
    Architecture("SegResNet", lambda n: SegResNet(n, 8, in_channels=1, out_channels=CLASSES), 32, segments=True),
    Architecture("SwinUNETR", lambda n: SwinUNETR(1, CLASSES, feature_size=12, spatial_dims=n), 64, segments=True),
)
