"""FullGrad: its parts add up, its map equals one made by hand, and what breaks the sum is told."""

import pytest
import torch
from monai.networks.nets import DenseNet, ResNet, UNet
from torch import nn

from medxai.attribution.full_grad import FullGrad
from medxai.core.target import ClassScore, RegionScore
from medxai.model.footprint import footprint
from medxai.model.place import on_image
from medxai.model.trace import trace
from tests.networks import CONV, NORM, POOL, images, net
from tests.reference.helpers import relative

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def biased(model):
    """The same network with every bias and running mean far from zero."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("bias", "running_mean")):
                value.copy_(torch.randn(value.shape, generator=draw) * 0.3)
    return model


MODELS = {
    "small": net,
    "DenseNet": lambda ndim: DenseNet(ndim, 1, 3, init_features=8, growth_rate=4, block_config=(2, 2)),
    "ResNet": lambda ndim: ResNet(
        "basic", [1, 1, 1, 1], [8, 16, 32, 64], spatial_dims=ndim, n_input_channels=1, num_classes=3
    ),
}


@DIMENSIONS
@pytest.mark.parametrize("name", MODELS)
def test_the_parts_add_up_to_the_score(name, ndim):
    torch.manual_seed(0)
    model = biased(MODELS[name](ndim)).eval()
    found = FullGrad()(model, images(ndim, 2, (33, 40, 35)), ClassScore((0, 2)))
    assert bool((found.details["completeness_error"] < 1e-4).all())
    assert bool((found.details["unplaced_share"] > 0).all())
    assert not found.notices


@DIMENSIONS
def test_equals_the_sum_made_by_hand(ndim):
    """One convolution, one norm, one more convolution: each emitted tensor's gradient by plain autograd."""
    torch.manual_seed(0)
    layers = [CONV[ndim](2, 3, 3, padding=1), NORM[ndim](3), nn.ReLU(), CONV[ndim](3, 4, 3, stride=2), nn.ReLU()]
    model = biased(nn.Sequential(*layers, POOL[ndim](1), nn.Flatten(), nn.Linear(4, 2))).eval()
    x = images(ndim, 2).repeat(1, 2, *[1] * ndim)[:1].requires_grad_()
    first = model[0](x)
    second = model[1](first)
    third = model[3](second.relu())
    score = model[7](third.relu().flatten(2).mean(2))[0, 1]
    slopes = torch.autograd.grad(score, [x, first, second, third])
    scale = model[1].weight / (model[1].running_var + model[1].eps).sqrt()
    biases = [model[0].bias, model[1].bias - model[1].running_mean * scale, model[3].bias]
    shares = [x * slopes[0], *(s * b.view(1, -1, *[1] * ndim) for s, b in zip(slopes[1:], biases, strict=True))]
    traced = trace(model, tuple(x.shape))
    expected = torch.zeros(x.shape[2:])
    for name, share in zip(("", "0", "1", "3"), shares, strict=True):
        for channel in share[0].abs().detach():
            low, high = channel.min(), channel.max()
            scaled = (channel - low) / (high - low) if high > low else torch.zeros_like(channel)
            placed = on_image(scaled[None, None], footprint(traced, name), x.shape[2:])[0, 0] if name else scaled
            expected += placed
    found = FullGrad()(model, x.detach(), ClassScore(1))
    assert relative(found.maps[0], expected) < 1e-4
    assert found.layer == ""
    total = sum(share.sum() for share in shares) + model[7].bias[1]
    torch.testing.assert_close(total, score)


def test_norms_that_scale_by_their_input_are_told():
    torch.manual_seed(0)
    model = UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,)).eval()
    found = FullGrad()(model, images(2, 1, (16, 16)), RegionScore(1))
    assert any("InstanceNorm2d" in notice for notice in found.notices)


def test_activations_that_break_the_sum_are_told_by_how_much():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    found = FullGrad()(model, 3 * images(2, 1), ClassScore(1))
    error = float(found.details["completeness_error"][0])
    assert error > 0.01
    assert any(f"miss the score by {error:.0%}" in notice for notice in found.notices)


def test_a_module_that_runs_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.linear = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 2)

        def forward(self, x):
            return self.linear(self.conv(self.conv(x).relu()).relu().mean((2, 3)))

    found = FullGrad()(biased(Twice()).eval(), images(2, 2).repeat(1, 2, 1, 1), ClassScore(1))
    assert bool((found.details["completeness_error"] < 1e-4).all())
