"""The demo's network, importable by name: `--model medxai.demo.model:build`, and the same judging by one patch."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from medxai.demo.training import PATCH

LESION = 1
_CELLS = (PATCH - 1) // 4 + 1


def build() -> nn.Module:
    """A small 3D DenseNet of MONAI with two logits, healthy and lesion; its last feature map has a stride of 4."""
    from monai.networks.nets import DenseNet

    network: nn.Module = DenseNet(
        spatial_dims=3, in_channels=1, out_channels=2, init_features=16, growth_rate=16, block_config=(3,)
    )
    return network


def build_by_patch() -> nn.Module:
    """`build` with the same weights, but a scan is judged by its most suspicious patch of the size it was trained on.

    Where `build` adds up what all lesions say, here one of two lesions is enough: their evidence is redundant.
    """
    network = build()
    network.class_layers = nn.Sequential(OrderedDict(relu=nn.ReLU(inplace=True), out=_MostSuspicious(64, 2)))
    return network


class _MostSuspicious(nn.Linear):
    """The logits of the patch whose margin of class 1 over class 0 is the largest."""

    def forward(self, features: Tensor) -> Tensor:
        cells = super().forward(features.movedim(1, -1)).movedim(-1, 1)
        patches = nn.functional.avg_pool3d(cells, _CELLS, 1).flatten(2)
        chosen = (patches[:, 1] - patches[:, 0]).argmax(1)
        return patches[torch.arange(len(patches)), :, chosen]
