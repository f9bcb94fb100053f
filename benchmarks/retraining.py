"""Checks that train again: ROAR and KAR (Hooker et al. 2019), and data randomisation (Adebayo et al. 2018).

Training is a callback, so that any network, data and recipe can be asked; nothing here knows how one trains.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

import torch
from torch import Tensor, nn

from medxai.errors import InputError
from medxai.metrics.similarity import spearman, ssim
from medxai.metrics.spec import Undefined

Train = Callable[[Tensor, Tensor, int], nn.Module]
Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Split:
    """Images (n, channel, *space) and their classes (n)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Task:
    """What to train and test on, how to train (images, labels, seed), how to explain (model, images, labels)."""

    train: Split
    test: Split
    fit: Train
    explain: dict[str, Explain]


@dataclass(frozen=True)
class Level:
    """Accuracy on the test images after `share` of the voxels of all images was replaced and the network retrained.

    `left_out` counts the images of both splits whose map says nothing: none of them trains or is tested.
    """

    share: float
    accuracy: tuple[float, ...]
    left_out: int

    @property
    def mean(self) -> float:
        return fmean(self.accuracy)

    @property
    def spread(self) -> float:
        return stdev(self.accuracy) if len(self.accuracy) > 1 else 0.0


def speaks(maps: Tensor) -> Tensor:
    """Which maps say something: finite ones that are not constant."""
    flat = maps.flatten(1)
    return flat.isfinite().all(1) & (flat.amin(1) < flat.amax(1))


def replaced(split: Split, maps: Tensor, share: float, fill: Tensor, keep: bool = False) -> Split:
    """The images with the `share` of voxels of highest value (with `keep`: all others) set to `fill`, one per channel.

    Exactly round(share n) voxels, ties by position; `fill` is the mean over the training images. Raises InputError for
    a map that says nothing, whose order would be that of position alone.
    """
    silent = int((~speaks(maps)).sum())
    if silent:
        raise InputError("A map that says nothing ranks no voxel.", found=f"{silent} of {len(maps)}")
    flat = maps.flatten(1)
    ranks = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    top = (ranks < round(share * flat.shape[1])).reshape(len(flat), 1, *maps.shape[1:])
    colour = fill.reshape(1, -1, *[1] * (maps.ndim - 1))
    return Split(torch.where(~top if keep else top, colour, split.images), split.labels)


def accuracy(model: nn.Module, split: Split) -> float:
    with torch.no_grad():
        return float((model.eval()(split.images).argmax(1) == split.labels).float().mean())


def roar(
    task: Task,
    name: str,
    shares: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    seeds: Sequence[int] = (0, 1, 2),
    check: Literal["roar", "kar"] = "roar",
) -> tuple[Level, ...]:
    """Accuracy after removing (ROAR: low is good) or keeping alone (KAR: high is good) what the map ranks first.

    The maps come once from a network trained on the intact images; at each share a new network per seed is trained on
    the replaced training images and tested on the replaced test images. The pattern of what was replaced may itself
    tell the class: compare with random maps of the same share. Images whose map says nothing are left out and counted;
    raises InputError where none is left.
    """
    model = task.fit(task.train.images, task.train.labels, seeds[0])
    fill = task.train.images.transpose(0, 1).flatten(1).mean(1)
    told = [_told(split, task.explain[name](model, split.images, split.labels)) for split in (task.train, task.test)]
    left_out = len(task.train.labels) + len(task.test.labels) - sum(len(maps) for _, maps in told)
    levels = []
    for share in shares:
        train, test = (replaced(split, maps, share, fill, keep=check == "kar") for split, maps in told)
        right = tuple(accuracy(task.fit(train.images, train.labels, s), test) for s in seeds)
        levels.append(Level(share, right, left_out))
    return tuple(levels)


def _told(split: Split, maps: Tensor) -> tuple[Split, Tensor]:
    """The images whose maps say something, and these maps."""
    kept = speaks(maps)
    if not bool(kept.any()):
        raise InputError("No map says anything.", found=f"{len(maps)} that are constant or not finite")
    return Split(split.images[kept], split.labels[kept]), maps[kept]


@dataclass(frozen=True)
class Shuffled:
    """How alike the test maps of networks trained on true and on shuffled labels are; low is good."""

    spearman: float
    ssim: float
    compared: int
    accuracy: float
    accuracy_shuffled: float


def data_randomisation(task: Task, name: str, seed: int = 0) -> Shuffled:
    """Mean similarity over the test images; those whose map says nothing are left out, `compared` counts the rest."""
    order = torch.randperm(len(task.train.labels), generator=torch.Generator().manual_seed(seed))
    labels = (task.train.labels, task.train.labels[order])
    models = [task.fit(task.train.images, chosen, seed) for chosen in labels]
    first, second = (task.explain[name](model, task.test.images, task.test.labels) for model in models)
    pairs = [(spearman(a, b), ssim(a, b)) for a, b in zip(first, second, strict=True)]
    defined = [pair for pair in pairs if not any(isinstance(value, Undefined) for value in pair)]
    means = [fmean(column) for column in zip(*defined, strict=True)] if defined else [torch.nan] * 2
    right = [accuracy(model, task.test) for model in models]
    return Shuffled(means[0], means[1], len(defined), right[0], right[1])
