"""Architectures of the real weights in the test data."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn


class Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.squeeze(x))
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 (Iandola et al. 2016), whose last ReLU pins negative logits at zero."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        sizes = [(64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128)]
        late = [(256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256)]
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        first = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(inplace=True), pool]
        self.features = nn.Sequential(
            *first,
            *[Fire(*s) for s in sizes[:2]],
            pool,
            *[Fire(*s) for s in sizes[2:]],
            pool,
            *[Fire(*s) for s in late],
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(512, classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


def squeezenet(classes: int = 3) -> nn.Module:
    return SqueezeNet(classes)


def meshnet(architecture: str) -> nn.Module:
    """The dilated convolution chain that an arch.json describes."""
    layers: list[nn.Module] = []
    for row in json.loads(Path(architecture).read_text("utf-8"))["sequential"]:
        if row["type"] == "Conv3d":
            sizes = {"padding": row["padding"], "dilation": row["dilation"]}
            layers.append(nn.Conv3d(row["cin"], row["cout"], row["kernel"], **sizes))
        else:
            layers.append(getattr(nn, row["type"])())
    return nn.Sequential(*layers)
