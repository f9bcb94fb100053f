"""Smooth Grad-CAM++ against Grad-CAM++, a slow loop over its copies, and what its noise is said to be."""

import pytest
import torch

from medxai.attribution.gradient_cams import GradCAMPlusPlus
from medxai.attribution.smooth import SmoothGradCAMPlusPlus
from medxai.core.target import ClassScore
from medxai.errors import LayerError
from medxai.model.guard import seeded
from tests.networks import CONV, images, net
from tests.peers import split
from tests.reference.helpers import relative
from tests.reference.test_gradient_cams import curved

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
TARGET = ClassScore(1)


def smooth(model, x, target=TARGET, layer="1", **options):
    with seeded(0, x.device):
        return SmoothGradCAMPlusPlus(layer=layer, **options)(model, x, target)


@DIMENSIONS
def test_one_clean_copy_is_grad_cam_plus_plus(ndim):
    model, x = curved(ndim), images(ndim)
    expected = GradCAMPlusPlus(layer="1")(model, x, TARGET).maps
    assert torch.equal(smooth(model, x, n=1, noise=0.0).maps, expected)


@DIMENSIONS
@pytest.mark.parametrize("batch", [1, 6])
def test_equals_the_means_over_noisy_copies_taken_one_by_one(batch, ndim):
    model, x, n = curved(ndim), images(ndim, 2), 5
    found = smooth(model, x, n=n, noise=0.3, batch=batch, relu=False).maps
    with seeded(0, x.device):
        noises = [torch.randn(x.shape[1:]) for _ in range(n)]
    for i in range(2):
        reach = x[i].max() - x[i].min()
        g = [split(model, 2, (x[i] + 0.3 * reach * noise)[None], 1)[1][0].double() for noise in noises]
        first, second, third = (sum(one**power for one in g) / n for power in (1, 2, 3))
        A = model[:2](x[i : i + 1])[0].detach().double()
        mass = A.flatten(1).sum(1).view(-1, *[1] * ndim)
        weights = (second / (2 * second + mass * third) * first.clamp(min=0)).flatten(1).sum(1)
        assert relative(found[i].double(), torch.einsum("k,k...->...", weights, A)) < 1e-4


def test_noise_is_measured_in_the_image_s_own_range():
    """The same picture in other units, read by a network that undoes them, has the same map."""
    model, x = curved(2), images(2)
    expected = smooth(model, x, n=4).maps
    with torch.no_grad():
        model[0].weight.div_(1000)
    assert relative(smooth(model, 1000 * x, n=4).maps, expected) < 1e-3


def test_a_seed_decides_the_map_and_nothing_else_does():
    model, x = curved(2), images(2)
    first = smooth(model, x, n=3).maps
    torch.rand(7)
    assert torch.equal(smooth(model, x, n=3).maps, first)
    with seeded(1, x.device):
        assert not torch.equal(SmoothGradCAMPlusPlus(layer="1", n=3)(model, x, TARGET).maps, first)


@DIMENSIONS
def test_only_chosen_channels_and_cells_count(ndim):
    model, x = curved(ndim), images(ndim, 1)
    A, g = split(model, 2, x, 1)
    channels, region = (0, 2), tuple(map(tuple, (g[0, 2] > 0).nonzero()[1:20:3].tolist()))
    found = smooth(model, x, n=1, noise=0.0, channels=channels, region=region, relu=False).maps
    kept = torch.zeros_like(g)
    for k in channels:
        for cell in region:
            kept[(0, k, *cell)] = 1
    alpha = 1 / (2 + A.sum(tuple(range(2, A.ndim)), keepdim=True) * g)
    weights = (alpha * (g * kept).relu()).flatten(2).sum(2)
    assert relative(found, torch.einsum("bk,bk...->b...", weights, A)) < 1e-5


@pytest.mark.parametrize("options", [{"channels": (4,)}, {"region": ((9, 0),)}, {"region": ((1,),)}])
def test_a_channel_or_cell_that_is_not_there_is_an_error(options):
    with pytest.raises(LayerError, match="has no such"):
        smooth(curved(2), images(2), n=1, **options)


@DIMENSIONS
def test_correlated_noise_keeps_its_size_and_has_the_stated_reach(ndim):
    """White noise smoothed by a Gaussian of s voxels correlates as exp(-d^2 / (4 s^2)) at distance d."""
    model = net(ndim)
    model[0] = CONV[ndim](1, 4, 3, padding=1)
    seen = []
    handle = model.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    x = torch.zeros(1, 1, *(24, 24, 24)[:ndim])
    x.view(-1)[0] = 1
    smooth(model, x, layer="4", n=40, noise=1.0, correlation=1.5, batch=40)
    handle.remove()
    noise = (seen[-1] - x)[:, 0]
    assert float(noise.std()) == pytest.approx(1, rel=0.05)
    for distance in (1, 2):
        along = float((noise * noise.roll(distance, 1)).mean() / noise.square().mean())
        assert along == pytest.approx(torch.tensor(-(distance**2) / (4 * 1.5**2)).exp().item(), abs=0.05)
