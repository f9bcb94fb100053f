"""Small networks whose answers are known, in two and three dimensions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
SIZE = (9, 11, 13)
LAYER = "4"


def net(ndim: int, seed: int = 0) -> nn.Module:
    """conv, norm, in-place ReLU, strided conv, in-place ReLU (LAYER), pooled linear head; left in training mode."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        CONV[ndim](1, 4, 3, padding=1),
        NORM[ndim](4),
        nn.ReLU(inplace=True),
        CONV[ndim](4, 6, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        POOL[ndim](1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6, 3),
    )
    with torch.no_grad():
        model[1].running_mean.uniform_(-0.1, 0.1)
        model[1].running_var.uniform_(0.5, 1.5)
        model[8].weight.abs_()
    return model.train()


def images(ndim: int, batch: int = 2, size: Sequence[int] = SIZE) -> Tensor:
    return torch.rand(batch, 1, *tuple(size)[:ndim], generator=torch.Generator().manual_seed(1))


def rising(model: nn.Module) -> nn.Module:
    """The same network with no negative kernel: the brighter a voxel, the higher every score."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.weight.data.abs_()
    return model


def symmetric(model: nn.Module) -> nn.Module:
    """The same network with every kernel averaged over all flips, so that it commutes with them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            weight = module.weight.data
            for axis in range(2, weight.ndim):
                weight = (weight + weight.flip(axis)) / 2
            module.weight.data = weight
    return model


def in_three_dimensions(flat: nn.Module) -> nn.Module:
    """A 3D network that does to every slice what `flat` does to an image."""
    deep = net(3)
    for source, copy in zip(flat, deep, strict=True):
        if isinstance(source, nn.Conv2d):
            replaced = nn.Conv3d(
                source.in_channels,
                source.out_channels,
                (1, *source.kernel_size),
                stride=(1, *source.stride),
                padding=(0, *source.padding),
            )
            replaced.weight.data = source.weight.data[:, :, None].clone()
            replaced.bias.data = source.bias.data.clone()
            deep[list(deep).index(copy)] = replaced
        else:
            copy.load_state_dict(source.state_dict())
    return deep


class Planted(nn.Module):
    """Its only evidence for class 1 is bright voxels; class 0 is a constant. `scores` the layer is channel 0 alone."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.features = CONV[ndim](1, 3, 3, padding=1)
        self.act = nn.ReLU()
        self.head = nn.Linear(3, 2)
        with torch.no_grad():
            self.features.weight.zero_()
            self.features.weight[0] = 1 / 3**ndim
            self.features.weight[1] = torch.randn(3**ndim, generator=torch.Generator().manual_seed(3)).view(
                1, *[3] * ndim
            )
            self.features.weight[2] = -self.features.weight[1]
            self.features.bias.zero_()
            self.features.bias[0] = -0.5
            self.head.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.features(x)).flatten(2).mean(2))


def planted_case(ndim: int, seed: int) -> tuple[Tensor, Tensor]:
    """An image of noise below 0.6 with one bright box, and the mask of the box."""
    draw = torch.Generator().manual_seed(seed)
    size = (16, 18, 20)[:ndim]
    image = torch.rand(size, generator=draw) * 0.6
    corner = [int(torch.randint(2, n - 6, (1,), generator=draw)) for n in size]
    box = tuple(slice(c, c + 4) for c in corner)
    image[box] = 1.0
    mask = torch.zeros(size, dtype=torch.bool)
    mask[box] = True
    return image[None, None], mask
