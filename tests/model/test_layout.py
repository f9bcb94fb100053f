"""Channels last is a matter of speed: no answer, gradient or network depends on it."""

import pytest
import torch
from torch import nn

from medxai import ClassScore
from medxai.attribution.bottleneck.iba import IBA
from medxai.model.forward import Forward
from medxai.model.layout import channels_last
from medxai.model.resume import resumable
from medxai.model.scoring import Answers, Scorer


class Flattening(nn.Module):
    """As AlexNet and VGG: what the convolutions emit is read as a row of numbers in the order of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 6 * 5, 2)

    def forward(self, x):
        x = self.second(self.first(x).relu())
        return self.head(x.view(x.size(0), -1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Flattening().eval()


def test_a_network_that_views_its_features_is_scored(network):
    images = torch.rand(2, 3, 6, 5)
    with torch.no_grad():
        expected = network(images)
    assert torch.allclose(Scorer(network, ClassScore(1))(images), expected[:, 1], atol=1e-6)
    assert torch.allclose(Answers(network, "identity")(images), expected, atol=1e-6)


def test_a_network_that_views_its_features_is_resumed(network):
    run = resumable(network, "first", torch.rand(1, 3, 6, 5))
    assert run.full == ""
    assert not run.last
    assert torch.allclose(run(run.activation), run.output, atol=1e-6)


def test_a_network_that_fails_in_both_layouts_says_its_own_error(network):
    with pytest.raises(RuntimeError, match="expected input"):
        Forward().on(network)(torch.rand(2, 4, 6, 5))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 5, 6), (2, 7, 3)])
def test_values_and_gradients_are_the_same(shape):
    values = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    laid = channels_last(values)
    assert torch.equal(laid, values)
    (gradient,) = torch.autograd.grad((laid**3).sum(), values)
    assert torch.equal(gradient, 3 * values.detach() ** 2)
    assert gradient.is_contiguous()


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 3, 1, 1), (2, 3, 4, 4)])
def test_what_follows_may_write_into_it(shape):
    values = torch.rand(shape, requires_grad=True)
    (channels_last(values * 1).mul_(2)).sum().backward()
    assert torch.equal(values.grad, torch.full(shape, 2.0))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_bottleneck_before_a_layer_that_works_in_place(channels):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, channels, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2)
    )
    found = IBA(layer="0", beta=0.1, steps=2, copies=1)(model, torch.rand(1, 1, 8, 8), ClassScore(1))
    assert found.maps.isfinite().all()


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_read_films_of_one_channel_so_too(ndim, channels):
    network, images = (nn.Conv2d, nn.Conv3d)[ndim - 2](channels, 4, 3), torch.rand(2, channels, *(5, 6, 7)[:ndim])
    answer = Forward().on(network)(images)
    assert answer.stride(1) == 1
    assert torch.allclose(answer, network(images), atol=1e-6)


@pytest.mark.parametrize("lay", [lambda x: x.to(memory_format=torch.channels_last), lambda x: x.mT.contiguous().mT])
def test_a_network_that_views_is_given_images_as_it_reads_them_however_they_lie(network, lay):
    images = torch.rand(2, 3, 6, 5)
    forward = Forward()
    assert torch.allclose(forward.on(network)(lay(images)), network(images), atol=1e-6)
    assert not forward.last
