"""ROAR, KAR and data randomisation of any task: `python -m benchmarks.roar --task package.module:task`.

The function returns a `benchmarks.retraining.Task`. Without it a task made here is asked: stripes in a small box,
lying or standing, at a random place of a noisy image, so that what is removed does not tell the class.
"""

import argparse
from importlib import import_module

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.retraining import Split, Task, data_randomisation, roar
from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore

SIDE, BOX = 24, 8


def stripes(count: int, seed: int) -> tuple[Split, Tensor]:
    """Images, classes, and the maps of where the evidence lies."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, SIDE, SIDE, generator=draw)
    labels = torch.randint(2, (count,), generator=draw)
    corners = torch.randint(SIDE - BOX, (count, 2), generator=draw)
    lying = (torch.arange(BOX) % 4 < 2).float()[:, None].expand(BOX, BOX)
    truth = torch.zeros(count, SIDE, SIDE)
    for image, label, (i, j), place in zip(images, labels, corners.tolist(), truth, strict=True):
        image[0, i : i + BOX, j : j + BOX] = lying.T if label else lying
        place[i : i + BOX, j : j + BOX] = 1
    return Split(images, labels), truth


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def fit(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = network()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(6):
        for some in torch.randperm(len(images)).split(32):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[some]), labels[some]).backward()
            optimiser.step()
    return model.eval()


def grad_cam(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    found = GradCAM(layer="3").attribute(model, images, (ClassScore(tuple(labels.tolist())),))
    return found[0].maps


def noise(_model: nn.Module, images: Tensor, _labels: Tensor) -> Tensor:
    return torch.rand(images[:, 0].shape, generator=torch.Generator().manual_seed(9))


def intensity(_model: nn.Module, images: Tensor, _labels: Tensor) -> Tensor:
    return (images[:, 0] - 0.5).abs()


def task(train: int = 800, test: int = 200) -> Task:
    (first, where_train), (second, where_test) = stripes(train, 0), stripes(test, 1)

    def exact(_model: nn.Module, images: Tensor, _labels: Tensor) -> Tensor:
        return where_train if len(images) == train else where_test

    methods = {"exact evidence": exact, "Grad-CAM": grad_cam, "|intensity|": intensity, "random": noise}
    return Task(first, second, fit, methods)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--task", default="benchmarks.roar:task")
    options.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3, 0.5, 0.7, 0.9])
    options.add_argument("--seeds", type=int, default=3)
    chosen = options.parse_args()
    module, _, name = chosen.task.partition(":")
    asked: Task = getattr(import_module(module), name)()
    for check, title in (("roar", "ROAR: accuracy after removal"), ("kar", "KAR: accuracy of what is kept")):
        table = Table("map", *[f"{share:.0%}" for share in chosen.shares], "images left out", title=title)
        for method in asked.explain:
            levels = roar(asked, method, chosen.shares, range(chosen.seeds), check)
            cells = [f"{level.mean:.2f} ± {level.spread:.2f}" for level in levels]
            table.add_row(method, *cells, str(levels[0].left_out))
        Console(width=110).print(table)
    table = Table("map", "Spearman", "SSIM", "images", "accuracy", "shuffled", title="Labels shuffled: maps compared")
    for method in asked.explain:
        row = data_randomisation(asked, method)
        cells = (f"{row.spearman:.2f}", f"{row.ssim:.2f}", str(row.compared), f"{row.accuracy:.2f}")
        table.add_row(method, *cells, f"{row.accuracy_shuffled:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
