"""A forward pass as quick as the network allows."""

from typing import Any

import torch
from torch import Tensor, nn

from medxai.model.alike import alike
from medxai.model.faults import FAULTS
from medxai.model.layout import channels_last
from medxai.model.shortcuts import Shortcuts


class Forward:
    """Gives a network its own copy of images in float32, on a processor with channels last, where it answers the same.

    That is up to twice as fast in the plane, and in space from a tenth slower to a third faster. The first image asks
    once both ways: networks that cannot read this layout (`x.view(len(x), -1)` after a convolution) or answer otherwise
    are given the other one.
    """

    def __init__(self) -> None:
        self.last: bool | None = None

    def __call__(self, network: nn.Module, images: Tensor) -> Any:
        """The output for images of shape (batch, channels, *space)."""
        images = images.float()
        if images.device.type != "cpu":
            return network(images.clone())
        if self.last is None:
            self.last = _reads_last(network, images[:1].detach())
        return _laid(network, images) if self.last else network(images.clone(memory_format=torch.contiguous_format))


def _laid(network: nn.Module, images: Tensor) -> Any:
    with Shortcuts.of(network).taken():
        return network(channels_last(images.clone()))


def _reads_last(network: nn.Module, image: Tensor) -> bool:
    with torch.no_grad():
        expected = network(image.clone(memory_format=torch.contiguous_format))
        try:
            return alike(_laid(network, image), expected)
        except FAULTS:
            return False
