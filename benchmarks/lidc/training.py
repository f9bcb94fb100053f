"""Teach the classifier malignant from benign; the order of everything depends on the seed alone."""

from collections.abc import Sequence

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from benchmarks.lidc.cohort import Nodule, tiles
from benchmarks.lidc.model import NoduleNet

STEPS = 300
BATCH = 32
RATE = 3e-3
GAIN, SHIFT = 0.1, 0.05


def train(nodules: Sequence[Nodule], seed: int = 0, steps: int = STEPS) -> nn.Module:
    """A NoduleNet after `steps` batches, half of them malignant, in eval mode.

    Augmentation: flips of all three axes, exchange of the two in the plane, a gain and a shift of the intensities.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NoduleNet().train()
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-2)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    images, malignant = tiles(nodules), np.array([nodule.malignant for nodule in nodules])
    kinds = [np.flatnonzero(~malignant), np.flatnonzero(malignant)]
    truth = torch.arange(BATCH) % 2
    for _ in track(range(steps), "training", transient=True):
        chosen = [int(rng.choice(kinds[kind])) for kind in truth.tolist()]
        loss = nn.functional.cross_entropy(model(torch.stack([_vary(rng, images[i]) for i in chosen])), truth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        pace.step()
    return model.eval()


def _vary(rng: np.random.Generator, tile: Tensor) -> Tensor:
    turned = tile.flip([axis for axis in (1, 2, 3) if rng.random() < 0.5])
    turned = turned.transpose(1, 2) if rng.random() < 0.5 else turned
    gain, shift = rng.standard_normal(2)
    varied: Tensor = turned * float(np.exp(GAIN * gain)) + SHIFT * float(shift)
    return varied
