"""The network: convolutions, a mean over positions and a linear head, so that a tile or a mosaic will do."""

from monai.networks.blocks import Convolution
from torch import Tensor, nn

EVIDENCE = "evidence"


class NoduleNet(nn.Module):
    """Logits (benign, malignant) of (b, 1, x, y, z), linear in the mean of `evidence` (b, k, x / 4, y / 4, z).

    With one of `outputs` instead of two it is a regressor.
    """

    def __init__(self, outputs: int = 2, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(1, width),
            _block(width, 2 * width, stride=(2, 2, 1)),
            _block(2 * width, 2 * width),
            _block(2 * width, 4 * width, stride=(2, 2, 1)),
            _block(4 * width, 4 * width),
        )
        self.evidence = nn.Identity()
        self.head = nn.Linear(4 * width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.head(self.evidence(self.features(images)).flatten(2).mean(2))
        return answers


def _block(channels: int, width: int, stride: tuple[int, int, int] = (1, 1, 1)) -> nn.Sequential:
    convolution = Convolution(3, channels, width, strides=stride, kernel_size=3, conv_only=True, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(width), nn.ReLU())
