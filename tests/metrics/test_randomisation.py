"""Sanity checks find methods that do not ask the network, and leave the network alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from medxai.errors import InputError
from medxai.metrics.randomisation import (
    cascading_spearman,
    cascading_ssim,
    class_sensitivity,
    efficient_mprt,
    execution_order,
    histogram_entropy,
    randomisation_margin,
    randomise,
    randomised,
    smooth_randomisation,
    weight_randomisation,
)
from medxai.metrics.similarity import on_grid, pearson, random_pairs, spearman, ssim
from medxai.metrics.spec import reason
from medxai.metrics.trial import Trial
from tests.metrics.methods import Edges, Gradient
from tests.metrics.probes import SHAPES, FlatLinear, draw
from tests.networks import LAYER, images, net

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
dimensions = pytest.mark.parametrize("ndim", [2, 3])


def trial(ndim, method, batch=3, **facts):
    return Trial(method, net(ndim), images(ndim, batch), ClassScore(1), **facts)


@dimensions
def test_a_map_that_never_asks_the_network_survives(ndim):
    blind, asking = trial(ndim, Edges()), trial(ndim, Gradient())
    assert cascading_ssim(blind) == pytest.approx(1)
    assert cascading_spearman(blind) == pytest.approx(1)
    assert efficient_mprt(blind) == pytest.approx(0)
    assert randomisation_margin(blind) < 0
    assert class_sensitivity(blind) == pytest.approx(1)
    assert abs(cascading_spearman(asking)) < 0.4


@dimensions
def test_a_cascade_forgets_from_the_output_down(ndim):
    model = net(ndim)
    stages = list(randomised(trial(ndim, Gradient(), stages=4)))
    assert [modules for modules, _ in stages] == [("8",), ("3",), ("1",), ("0",)]
    network = stages[-1][1]
    assert all(not torch.equal(a, b) for a, b in zip(model[0].parameters(), network[0].parameters(), strict=True))
    assert torch.equal(network[1].running_mean, torch.zeros(4))
    for (name,), alone in randomised(trial(ndim, Gradient(), stages=4), "independent"):
        changed = {key for key, value in alone.state_dict().items() if not torch.equal(value, model.state_dict()[key])}
        assert {key.partition(".")[0] for key in changed} == {name}


def test_one_image_has_no_pairs():
    assert reason(randomisation_margin(trial(2, Edges(), batch=1))) == "pairs need at least two images"
    with pytest.raises(InputError, match="two maps"):
        random_pairs(draw(1, 8, 8), ssim)


def test_modules_follow_execution_not_registration():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 2)
            self.unused = nn.Linear(3, 3)
            self.attend = nn.MultiheadAttention(4, 1, batch_first=True)
            self.first = nn.Conv2d(1, 4, 3)
            self.token = nn.Parameter(torch.zeros(4))

        def forward(self, x):
            tokens = self.first(x).flatten(2).transpose(1, 2) + self.token
            return self.last(self.attend(tokens, tokens, tokens, need_weights=False)[0].mean(1))

    model = Crossed()
    order = execution_order(model, torch.rand(1, 1, 5, 5))
    assert order[0] == "first"
    assert set(order[1:3]) == {"attend", "attend.out_proj"}
    assert order[3:5] == ("last", "")
    randomise(model)
    assert bool(model.token.any())


@shapes
def test_opposite_classes_have_opposite_maps(shape):
    model = FlatLinear(shape)
    with torch.no_grad():
        model.head.weight[1] = -model.head.weight[0]
    asked = Trial(Gradient(), model, draw(2, 1, *shape), ClassScore(0))
    assert class_sensitivity(asked) == pytest.approx(-1)
    assert (
        reason(class_sensitivity(replace(asked, model=FlatLinear(shape, classes=1))))
        == "the output is no table of classes"
    )


@dimensions
def test_smoothing_averages_over_noisy_copies(ndim):
    """A map that is linear in the image has the mean map of the noisy copies; noise of no size changes nothing."""
    asked = trial(ndim, GradCAM(layer=LAYER), radius=0.0, draws=3)
    for smooth, plain in zip(smooth_randomisation(asked), weight_randomisation(asked), strict=True):
        assert smooth.similarity["ssim"] == pytest.approx(plain.similarity["ssim"], abs=1e-5)
        assert smooth.compared == plain.compared


def by_windows(a, b, side):
    """Mean over every window of the formula of Wang et al. 2004, unbiased (co)variances."""
    from itertools import product

    span = a.max() - a.min()
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    found = []
    for corner in product(*[range(n - side + 1) for n in a.shape]):
        box = tuple(slice(c, c + side) for c in corner)
        x, y = a[box].ravel(), b[box].ravel()
        covariance = np.cov(x, y)
        found.append(
            (2 * x.mean() * y.mean() + c1)
            * (2 * covariance[0, 1] + c2)
            / (x.mean() ** 2 + y.mean() ** 2 + c1)
            / (covariance[0, 0] + covariance[1, 1] + c2)
        )
    return float(np.mean(found))


@pytest.mark.parametrize("shape", [(12, 13), (8, 9, 10), (5, 9, 10), (1, 9, 10)], ids=str)
def test_ssim_has_windows_along_every_axis(shape):
    a, b = draw(*shape) - 0.3, draw(*shape, seed=1) - 0.3
    x, y = (m.squeeze().double().numpy() / float(m.abs().max()) for m in (a, b))
    assert ssim(a, b) == pytest.approx(by_windows(x, y, min(7, *x.shape)), rel=1e-6)
    assert ssim(a, 5 * a) == pytest.approx(1)


def test_ssim_of_flattened_maps_is_another_number():
    """As in Quantus 0.6.0, which compares one-dimensional vectors: rows' ends become neighbours."""
    from skimage.metrics import structural_similarity

    a = torch.zeros(24, 24)
    a[8:16, 8:16] = 1
    b = a.roll(2, 0)
    flat = structural_similarity(a.flatten().numpy(), b.flatten().numpy(), win_size=7, data_range=1.0)
    assert abs(flat - ssim(a, b)) > 0.1


def test_what_cannot_be_compared_has_a_reason():
    a = draw(8, 8)
    assert reason(spearman(a, torch.zeros(8, 8))) == "a map is constant"
    assert reason(pearson(a, torch.full((8, 8), torch.nan))) == "a map is not finite"
    assert reason(ssim(draw(2, 8), draw(2, 8, seed=1))).startswith("a map of fewer than three")
    assert spearman(a, a**3) == pytest.approx(1)


def test_pairs_are_of_different_maps():
    maps = draw(4, 8, 8)
    every = [ssim(maps[i], maps[j]) for i in range(4) for j in range(i + 1, 4)]
    assert sorted(random_pairs(maps, ssim)) == pytest.approx(sorted(every))
    assert len(random_pairs(maps, ssim, pairs=3)) == 3


def test_histogram_entropy_by_hand():
    values = torch.tensor([0.0, 0.0, 1.0, -1.0, 0.5, 0.5, 0.5, 0.5])
    assert histogram_entropy(values, bins=3) == pytest.approx(-(2 * 0.25 * np.log(0.25) + 0.5 * np.log(0.5)))
    assert histogram_entropy(torch.ones(9)) == 0


@dimensions
def test_a_layer_map_spreads_linearly_over_the_image(ndim):
    size = (8, 8, 8)[:ndim]
    ramp = torch.arange(4.0).reshape(-1, *[1] * (ndim - 1)).expand(4, *[4] * (ndim - 1))[None]
    spread = on_grid(ramp, size)[0]
    along = spread[(slice(None), *[0] * (ndim - 1))]
    torch.testing.assert_close(along, torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]))
