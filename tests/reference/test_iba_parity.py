"""The published per-sample bottleneck, written again from its equations, slowly: ours finds the same capacity."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.objective import Objective
from medxai.attribution.bottleneck.search import Bottleneck, Settings
from medxai.attribution.bottleneck.statistics import estimate
from medxai.attribution.passes import one_pass
from medxai.core.target import ClassScore
from tests.networks import CONV, LAYER, images, net

BETA, RATE, STEPS, COPIES, START, SEED, TARGET = 10.0, 1.0, 4, 10, 5.0, 11, 2


def kernel(ndim: int) -> torch.Tensor:
    """A dense Gaussian of one cell, five cells wide."""
    axes = torch.meshgrid(*[torch.arange(-2, 3)] * ndim, indexing="ij")
    weights = torch.stack([(axis**2).float() for axis in axes]).sum(0).mul(-0.5).exp()
    return weights / weights.sum()


def smoothed(openness: torch.Tensor, ndim: int) -> torch.Tensor:
    padded = nn.functional.pad(openness, (2, 2) * ndim, mode="reflect")
    convolve = CONV[ndim](1, 1, 5, bias=False)
    convolve.weight = nn.Parameter(kernel(ndim)[None, None].double(), requires_grad=False)
    return torch.cat([convolve(padded[:, k : k + 1]) for k in range(padded.shape[1])], 1)


def published(model, x, features, statistics, ndim):
    """Capacity in nats of every feature in the last forward pass, which precedes the last step of Adam; in float64."""
    model, x, features = deepcopy(model).double(), x.double(), features.double()
    prefix, suffix = model[: int(LAYER) + 1], model[int(LAYER) + 1 :]
    mean, std = statistics.mean.double(), statistics.std.double().clamp(min=0.01)
    alive = (statistics.active > 0.01).double()
    alpha = torch.full_like(features, START).requires_grad_()
    first, second = torch.zeros_like(alpha), torch.zeros_like(alpha)
    draw = torch.Generator().manual_seed(SEED)
    for step in range(1, STEPS + 1):
        openness = smoothed(torch.sigmoid(alpha), ndim)
        r = (features - mean) / std
        width = (1 - openness) ** 2
        nats = -0.5 * (1 + torch.log(width) - (r * openness) ** 2 - width) * alive
        noise = mean + std * torch.randn((COPIES, *features.shape[1:]), generator=draw)
        seen = prefix(x).detach().expand(COPIES, *features.shape[1:])
        score = suffix((openness * seen + (1 - openness) * noise) * alive)[:, TARGET]
        loss = torch.log1p(torch.exp(-score)).mean() + BETA * nats.mean()
        (slope,) = torch.autograd.grad(loss, alpha)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        with torch.no_grad():
            alpha -= RATE * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    return nats.detach()


@pytest.mark.parametrize("ndim", [2, 3])
def test_capacity_equals_the_published_algorithm(ndim):
    model, x = net(ndim).eval(), images(ndim, 1)
    statistics = estimate(model, [images(ndim, 8)], LAYER, "element")
    features = model[: int(LAYER) + 1](x).detach()
    expected = published(model, x, features, statistics, ndim)
    with one_pass(model, x, [ClassScore(TARGET)], [LAYER], graph=False) as seen:
        neck = Bottleneck.at(seen, [NoisyLayer.of(seen.captured[0], statistics)], range(1), SEED)
        settings = Settings(STEPS - 1, RATE, COPIES, (1.0,) * ndim, START, epsilon=1e-8, at_once=4)
        found = neck.nats(neck.search(Objective("logistic").keep, torch.tensor([BETA]), settings).gate)
    assert expected.max() > 0.1
    assert float((found - expected).abs().max() / expected.max()) <= 1e-6
