"""Probes whose answers are known: an additive network, a constant one, a pooled convolutional one."""

import torch
from torch import Tensor, nn

from medxai.core.target import ClassScore
from medxai.metrics.curves import Perturbation, even_levels
from medxai.metrics.imputation import Constant
from medxai.metrics.probe import Classes, Probe
from medxai.metrics.units import Voxels
from medxai.model.scoring import Answers, Scorer
from tests.networks import net

SHAPES = {"2d": (9, 11), "3d": (6, 7, 8)}
VOXELWISE = Perturbation(Voxels(), Constant(), even_levels(20))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def additive(shape: tuple[int, ...], perturbation: Perturbation = VOXELWISE, **facts: object) -> Probe:
    """score = sum_v w_v x_v; the map is the exact contribution of every voxel to the drop from a baseline of zero."""
    weight, image = draw(*shape) - 0.3, draw(1, *shape, seed=1)
    return Probe(weight * image[0], image, Linear(weight), perturbation=perturbation, **facts)


def constant(shape: tuple[int, ...], value: float = 0.7) -> Probe:
    return Probe(draw(*shape), draw(1, *shape, seed=1), lambda x: torch.full((len(x),), value), perturbation=VOXELWISE)


def convolutional(shape: tuple[int, ...], **facts: object) -> Probe:
    """The network of tests.networks, asked for the probability of class 1, and why it is not class 0."""
    image, model = draw(1, *shape, seed=2), net(len(shape))
    classes = Classes(Answers(model, "softmax"), asked=(1,), others=(0,))
    return Probe(draw(*shape, seed=3), image, Scorer(model, ClassScore(1), "softmax"), classes=classes, **facts)


class Linear:
    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, images: Tensor) -> Tensor:
        return (images.double() * self.weight).flatten(1).sum(1)


class FlatLinear(nn.Module):
    """One weight per voxel and class: its gradient is its weight, everywhere."""

    def __init__(self, shape: tuple[int, ...], classes: int = 2, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.head = nn.Linear(int(torch.tensor(shape).prod()), classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1))
