"""Teach the classifier tumour from no tumour on some patients; the order of everything depends on the seed alone."""

from collections.abc import Sequence

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from benchmarks.brats.cohort import Corners, Patient
from benchmarks.brats.model import patch_net

STEPS = 300
BATCH = 16
SHARES = ((0.05, 0.3), (0.3, 1.0))  # small lesions and edges, then patches deep in a lesion
RATE = 1e-2
GAIN, SHIFT = 0.1, 0.05


def train(patients: Sequence[Patient], seed: int = 0, steps: int = STEPS) -> nn.Module:
    """A PatchNet after `steps` batches, half with tumour and half without, in eval mode.

    Half of the patches without tumour lie just beside one, where alone the edge of a tumour can be learned.
    Augmentation: flips of all three axes, and per channel a gain and a shift of the intensities.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = patch_net().train()
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-2)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    healthy, beside = [patient.healthy for patient in patients], [patient.beside for patient in patients]
    diseased = [[patient.diseased(share, off_centre=0) for patient in patients] for share in SHARES]
    places = [healthy, diseased[0], beside, diseased[1]] * (BATCH // 4)
    truth = torch.arange(BATCH) % 2
    for _ in track(range(steps), "training", transient=True):
        images = torch.cat([_draw(rng, patients, corners) for corners in places])
        loss = nn.functional.cross_entropy(model(images), truth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        pace.step()
    return model.eval()


def _draw(rng: np.random.Generator, patients: Sequence[Patient], places: Sequence[Corners]) -> Tensor:
    who = int(rng.integers(len(patients)))
    patch = patients[who].patches(rng.choice(places[who], 1))
    patch = patch.flip([axis for axis in (2, 3, 4) if rng.random() < 0.5])
    gain, shift = torch.from_numpy(rng.standard_normal((2, 1, 2, 1, 1, 1))).float()
    varied: Tensor = patch * (GAIN * gain).exp() + SHIFT * shift
    return varied
