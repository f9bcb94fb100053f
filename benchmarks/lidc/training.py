"""Teach the network malignant from benign, or a score of it; the order of everything depends on the seed alone."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from benchmarks.lidc.cohort import Nodule, tiles
from benchmarks.lidc.model import NoduleNet

STEPS = 300
BATCH = 32
RATE = 3e-3
GAIN, SHIFT = 0.1, 0.05

Indices = NDArray[np.int64]


def train(nodules: Sequence[Nodule], seed: int = 0, steps: int = STEPS) -> nn.Module:
    """A NoduleNet that tells malignant from benign after `steps` batches, half of them malignant, in eval mode."""
    malignant = np.array([nodule.malignant for nodule in nodules])
    truth = torch.arange(BATCH) % 2
    kinds = [np.flatnonzero(malignant == kind) for kind in truth.tolist()]
    return _taught(tiles(nodules), kinds, partial(nn.functional.cross_entropy, target=truth), 2, seed, steps)


def train_regressor(nodules: Sequence[Nodule], seed: int = 0, steps: int = STEPS) -> nn.Module:
    """A NoduleNet that answers the score of malignancy after `steps` batches of all scores alike, in eval mode."""
    scores = np.array([nodule.score for nodule in nodules])
    truth = 1 + torch.arange(BATCH)[:, None] % 5
    kinds = [np.flatnonzero(scores == score) for score in truth.flatten().tolist()]
    return _taught(tiles(nodules), kinds, partial(nn.functional.mse_loss, target=truth.float()), 1, seed, steps)


def _taught(
    images: Tensor, kinds: Sequence[Indices], loss: Callable[[Tensor], Tensor], outputs: int, seed: int, steps: int
) -> nn.Module:
    """Each batch has one image drawn from every one of `kinds`, and the loss of its answers is lowered.

    Augmentation: flips of all three axes, exchange of the two in the plane, a gain and a shift of the intensities.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NoduleNet(outputs).train()
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-2)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in track(range(steps), "training", transient=True):
        chosen = [int(rng.choice(kind)) for kind in kinds]
        optimiser.zero_grad()
        loss(model(torch.stack([_vary(rng, images[i]) for i in chosen]))).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        pace.step()
    return model.eval()


def _vary(rng: np.random.Generator, tile: Tensor) -> Tensor:
    turned = tile.flip([axis for axis in (1, 2, 3) if rng.random() < 0.5])
    turned = turned.transpose(1, 2) if rng.random() < 0.5 else turned
    gain, shift = rng.standard_normal(2)
    varied: Tensor = turned * float(np.exp(GAIN * gain)) + SHIFT * float(shift)
    return varied
