"""Training of the demo's network: on patches, so that what surrounds a lesion says nothing about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medxai.core.resample import read_on
from medxai.core.volume import Case
from medxai.io.recipe import Recipe
from medxai.model.guard import seeded
from medxai.shapes import Images, MaskArray

# One more than a multiple of the network's stride: then cell i, at voxel 4 i, mirrors onto a cell. With another size,
# training on mirrored patches moves what a cell answers to away from the middle of its receptive field.
PATCH = 33
_BATCH = 8
_CALIBRATION = 8
_LEARNING_RATE = 5e-3
_WEIGHT_DECAY = 1e-2
_AT_LESION = 0.8
_JITTER = 0.7


@dataclass(frozen=True, eq=False)
class Example:
    """What the network sees of a case, and which of its voxels are lesion (none in the healthy)."""

    images: Images
    lesion: MaskArray

    @property
    def diseased(self) -> bool:
        return bool(self.lesion.any())


def prepare(case: Case, recipe: Recipe) -> Example:
    """The case on the model's grid, and its annotation read there."""
    prepared = recipe.apply(case.image)
    lesion = torch.zeros(prepared.geometry.shape, dtype=torch.bool)
    for mask in case.masks.values():
        lesion |= read_on(mask.data.float(), mask.geometry, prepared.geometry) > 0.5
    return Example(prepared.images, lesion)


@dataclass(frozen=True)
class Training:
    """AdamW with a one-cycle rate on cross entropy; each epoch draws one patch of every example.

    A patch counts as diseased where it holds at least half of the lesion; patches are mirrored at random. A whole scan
    dilutes a lesion more than a patch does, so the bias is set on whole scans at last: midway between the two groups.
    """

    epochs: int = 60
    seed: int = 0

    def __call__(
        self,
        build: Callable[[], nn.Module],
        examples: Sequence[Example],
        device: torch.device,
        step: Callable[[], None],
    ) -> tuple[nn.Module, float]:
        """A network of `build` trained on `device`, and the mean loss of its last epoch; each epoch calls `step`."""
        with seeded(self.seed, device):
            network = build().to(device).train()
            loss = self._fit(network, examples, device, step)
        network.eval()
        margins = [(margin(network, e.images.to(device)), e.diseased) for e in examples[:_CALIBRATION]]
        groups = [[m for m, diseased in margins if diseased is group] for group in (True, False)]
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            last.bias[1] -= sum(sum(group) / len(group) for group in groups) / 2
        return network, loss

    def _fit(
        self, network: nn.Module, examples: Sequence[Example], device: torch.device, step: Callable[[], None]
    ) -> float:
        batches = -(-len(examples) // _BATCH)
        optimiser = torch.optim.AdamW(network.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=self.epochs * batches)
        mean = 0.0
        for _ in range(self.epochs):
            losses = []
            for chosen in torch.randperm(len(examples)).tensor_split(batches):
                drawn = [_patch(examples[int(n)]) for n in chosen]
                images = torch.stack([image for image, _ in drawn]).to(device)
                labels = torch.tensor([int(diseased) for _, diseased in drawn], device=device)
                loss = nn.functional.cross_entropy(network(images), labels)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                rate.step()
                losses.append(float(loss.detach()))
            mean = sum(losses) / len(losses)
            step()
        return mean


def margin(network: nn.Module, images: Images) -> float:
    """By how much the logit of class 1 exceeds that of class 0."""
    with torch.no_grad():
        healthy, diseased = network(images)[0].tolist()
    return float(diseased - healthy)


def auc(diseased: Sequence[float], healthy: Sequence[float]) -> float:
    """The chance that a diseased case scores above a healthy one; ties count half."""
    pairs = [(d > h) + 0.5 * (d == h) for d in diseased for h in healthy]
    return sum(pairs) / len(pairs) if pairs else float("nan")


def _patch(example: Example) -> tuple[Tensor, bool]:
    shape = example.lesion.shape
    start = [int(torch.randint(0, max(1, n - PATCH + 1), ())) for n in shape]
    if example.diseased and float(torch.rand(())) < _AT_LESION:
        middle = example.lesion.nonzero().double().mean(0)
        shift = (torch.rand(len(shape), dtype=torch.float64) - 0.5) * PATCH * _JITTER
        start = [int(min(max(0, m), n - PATCH)) for m, n in zip(middle + shift - PATCH / 2, shape, strict=True)]
    window = tuple(slice(s, s + PATCH) for s in start)
    inside = int(example.lesion[window].sum())
    mirrored = [a + 1 for a in range(len(shape)) if float(torch.rand(())) < 0.5]
    image = example.images[0][(slice(None), *window)].flip(mirrored)
    return image, example.diseased and 2 * inside >= int(example.lesion.sum())
