"""ROAD in the plane beside pytorch-grad-cam 1.5.7, whose code is the authors'; and what goes wrong there."""

import importlib

import numpy as np
import pytest
import torch

from medxai.core.target import ClassScore
from medxai.metrics.probe import Probe
from medxai.metrics.road import NoisyLinear, solve
from medxai.metrics.scene import Scene
from medxai.metrics.spec import reason
from medxai.metrics.sufficiency import road
from medxai.model.scoring import Scorer
from tests.metrics.probes import draw
from tests.networks import net
from tests.peers import grad_cam_library

pytestmark = [
    pytest.mark.filterwarnings("ignore::scipy.sparse.linalg.MatrixRankWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]


def library():
    grad_cam_library()
    return importlib.import_module("pytorch_grad_cam.metrics.road")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_same_pixels_are_filled_with_the_same_values(share):
    image, hole = draw(3, 20, 24) * 4 - 1, draw(20, 24, seed=1) < share
    theirs = library().NoisyLinearImputer(noise=0)(image, (~hole).float())
    ours = NoisyLinear(0.0)(Scene(image, torch.ones(20, 24, dtype=torch.bool)))(hole[None])[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)


def test_the_same_score_without_noise():
    """Their percentile p keeps what lies below it, so that 10 .. 90 are our 90 .. 10 % removed; 0 is in no map."""
    model, image = net(2).eval(), draw(1, 20, 20, seed=2)
    values = (torch.randperm(400, generator=torch.Generator().manual_seed(3)).reshape(20, 20) + 0.5) / 400
    peer = library()
    perturb = peer.PerturbationConfidenceMetric
    scores = {"most": [], "least": []}
    for percentile in range(10, 100, 10):
        for name, kind in (("most", peer.RemoveMostRelevantFirst), ("least", peer.RemoveLeastRelevantFirst)):
            metric = perturb(kind(percentile, peer.NoisyLinearImputer(noise=0)))
            found = metric(image[None], values[None].numpy(), [lambda out: out.softmax(0)[1].detach()], model)
            scores[name].append(float(found[0]))
    theirs = (np.mean(scores["least"]) - np.mean(scores["most"])) / 2
    probe = Probe(values, image, Scorer(model, ClassScore(1), "softmax"))
    assert road(probe) == pytest.approx(float(theirs), abs=2e-3)
    assert abs(float(theirs)) < 0.5


def test_of_a_volume_grad_cam_answers_nan():
    """Its neighbours are of the plane: whatever lies beyond the first slice has none."""
    image, hole = draw(1, 6, 6, 6), draw(6, 6, 6, seed=1) < 0.5
    theirs = library().NoisyLinearImputer(noise=0)(image, (~hole).float())
    assert bool(theirs[:, hole].isnan().any())
    assert bool(solve(image[None], hole[None]).isfinite().all())


def test_a_zero_map_removes_everything_there_and_nothing_here():
    image = draw(1, 12, 12)
    removed = library().RemoveMostRelevantFirst(80, lambda _image, kept: kept)(image, torch.zeros(12, 12))
    assert not bool(removed.any())
    probe = Probe(torch.zeros(12, 12), image, Scorer(net(2), ClassScore(1), "softmax"))
    assert reason(road(probe)) == "zero map"
