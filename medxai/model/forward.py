"""A forward pass as quick as the network allows."""

from typing import Any

from torch import Tensor, nn

from medxai.model.layout import channels_last
from medxai.model.norms import drawn, lines


class Forward:
    """Gives a network images in float32, on a processor with channels last: 1.1 to 2 times as fast.

    One that cannot read this layout (`x.view(len(x), -1)` after a convolution) is given the other from then on.
    """

    def __init__(self) -> None:
        self.last = True

    def __call__(self, network: nn.Module, images: Tensor) -> Any:
        """The output for images of shape (batch, channels, *space)."""
        images = images.float()
        if images.device.type != "cpu":
            return network(images)
        if self.last:
            try:
                with drawn(lines(network)):
                    return network(channels_last(images))
            except RuntimeError:
                self.last = False
        return network(images.contiguous())
