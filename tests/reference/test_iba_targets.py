"""What a bottleneck is asked decides where its bits lie: every kind of target on an image with three findings."""

import pytest
import torch
from torch import nn

from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.statistics import estimate
from medxai.core.target import ClassScore, ContrastScore, GroupScore, MarginScore, RegionScore, SignedScore
from medxai.model.guard import seeded
from tests.networks import CONV

LEFT, MIDDLE, RIGHT = range(3)
SIZE = {2: (12, 36), 3: (6, 8, 36)}


class Findings(nn.Module):
    """One logit for what is bright in each third of the image; `head` gives the answer another form."""

    def __init__(self, ndim: int, head: str) -> None:
        super().__init__()
        self.head, self.features, self.act = head, CONV[ndim](1, 1, 3, padding=1), nn.ReLU()
        with torch.no_grad():
            self.features.weight.fill_(1 / 3**ndim)
            self.features.bias.fill_(-0.6)

    def forward(self, x):
        bright = self.act(self.features(x))
        if self.head == "voxels":
            return torch.cat([0.1 - bright, bright], 1)
        logits = torch.stack([third.flatten(1).sum(1) for third in bright.tensor_split(3, -1)], 1)
        return logits[:, [MIDDLE]] if self.head == "one logit" else logits


def image(ndim, findings, seed):
    voxels = torch.rand(1, 1, *SIZE[ndim], generator=torch.Generator().manual_seed(seed)) * 0.5
    for third in findings:
        voxels[(..., *[slice(2, 6)] * (ndim - 1), slice(12 * third + 4, 12 * third + 8))] = 1.0
    return voxels


def middle(ndim):
    region = torch.zeros(SIZE[ndim], dtype=torch.bool)
    region[..., 12:24] = True
    return region


TARGETS = {
    "a class of several": (lambda _: ClassScore(MIDDLE), "logits", {MIDDLE}),
    "one label of several": (lambda _: ClassScore(RIGHT), "logits", {RIGHT}),
    "a single logit": (lambda _: SignedScore(), "one logit", {MIDDLE}),
    "a group": (lambda _: GroupScore((LEFT, RIGHT)), "logits", {LEFT, RIGHT}),
    "a contrast": (lambda _: ContrastScore(MIDDLE, (LEFT,), gamma=0.25), "logits", {MIDDLE}),
    "a margin": (lambda _: MarginScore(MIDDLE), "logits", {MIDDLE}),
    "a region of a segmentation": (lambda ndim: RegionScore(1, middle(ndim)), "voxels", {MIDDLE}),
}


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("asked", TARGETS)
def test_bits_lie_where_the_target_looks(asked, ndim):
    target, head, places = TARGETS[asked]
    model = Findings(ndim, head).eval()
    present = (LEFT, MIDDLE, RIGHT) if asked != "a margin" else (MIDDLE,)
    cohort = [image(ndim, [i] if i < 3 else [], 50 + i) for i in range(12)]
    known = estimate(model, cohort, "act", "element")
    with seeded(0, torch.device("cpu")):
        found = IBA(layer="act", statistics=known, beta=0.3, steps=10, copies=2, rate=1.0)(
            model, image(ndim, present, 3), target(ndim)
        )
    shares = [float(third.sum() / found.maps.sum()) for third in found.maps[0].tensor_split(3, -1)]
    assert found.status[0].ok
    assert sum(shares[third] for third in places) > 0.9
    assert min(shares[third] for third in places) > 0.25
