"""The classifier: what a place looks like makes the evidence, what surrounds it decides how far to believe it."""

from monai.networks.blocks import Convolution
from torch import Tensor, nn

EVIDENCE = "evidence"


class PatchNet(nn.Module):
    """Logits (no tumour, tumour) of patches (b, 2, 24, 24, 24), linear in the mean of `evidence` (b, k, 12, 12, 12).

    evidence = mean_3x3x3(local(x)) * (0.5 + 0.5 gate(x)): local features look 7 voxels wide (14 mm), the gate 23.
    Context takes evidence back but creates none elsewhere, so the map of a class, a weighted sum of `evidence`, stays
    where the tissue is. The mean counts no padding, or evidence at the border of a patch would weigh less. Cell i of
    every branch is centred at voxel 2 i.
    """

    def __init__(self, stem: int = 16, width: int = 32, context: int = 16) -> None:
        super().__init__()
        self.stem = _block(2, stem, kernel=3, stride=2)
        self.local = nn.Sequential(
            _block(stem, width), _block(width, width), nn.AvgPool3d(3, 1, 1, count_include_pad=False)
        )
        self.gate = nn.Sequential(
            _block(stem, context, kernel=3, dilation=2),
            _block(context, context, kernel=3, dilation=3),
            nn.Conv3d(context, 1, 1),
            nn.Sigmoid(),
        )
        self.evidence = nn.Identity()
        self.head = nn.Linear(width, 2)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        evidence = self.evidence(self.local(stem) * (0.5 + 0.5 * self.gate(stem)))
        logits: Tensor = self.head(evidence.flatten(2).mean(2))
        return logits


def patch_net() -> nn.Module:
    """An untrained PatchNet."""
    return PatchNet()


def _block(channels: int, width: int, kernel: int = 1, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = Convolution(
        3, channels, width, strides=stride, kernel_size=kernel, dilation=dilation, conv_only=True, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm3d(width), nn.ReLU())
