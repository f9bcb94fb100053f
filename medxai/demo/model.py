"""The demo's network, importable by name: `--model medxai.demo.model:build`."""

from torch import nn


def build() -> nn.Module:
    """A small 3D DenseNet of MONAI with two logits, healthy and lesion; its last feature map has a stride of 4."""
    from monai.networks.nets import DenseNet

    network: nn.Module = DenseNet(
        spatial_dims=3, in_channels=1, out_channels=2, init_features=16, growth_rate=16, block_config=(3,)
    )
    return network
