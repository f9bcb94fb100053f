"""The mean of a 1x1 convolution is the convolution of the mean, where nothing but the mean reads it."""

import pytest
import torch
from torch import nn

from medxai.model.alter import answering
from medxai.model.forward import Forward
from medxai.model.means import means, swapped
from medxai.model.resume import resumable
from medxai.model.shortcuts import Shortcuts

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
MEAN = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def transition(ndim=2, mean=None, **convolution):
    torch.manual_seed(0)
    return nn.Sequential(CONVOLUTION[ndim](4, 6, 1, **convolution), mean or MEAN[ndim](2), nn.ReLU()).eval()


def cells_read(chain, images):
    """How many cells the convolution was given."""
    seen = []
    own = chain[0]._conv_forward
    chain[0]._conv_forward = lambda values, *rest: seen.append(values[0, 0].numel()) or own(values, *rest)
    try:
        return chain(images), seen
    finally:
        del chain[0]._conv_forward


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"groups": 2}, {"padding": "same"}, {"padding": "valid"}])
def test_values_and_gradients_are_those_of_the_network_from_a_fraction_of_the_cells(ndim, settings):
    chain = transition(ndim, **settings)
    images = torch.randn(2, 4, *(7, 6, 5)[:ndim], requires_grad=True)
    answers, cells = cells_read(chain, images)
    weight = torch.randn_like(answers)
    with answering(swapped(means(chain), ())):
        ours, fewer = cells_read(chain, images)
    assert fewer[0] < cells[0] / 2
    gradients = [torch.autograd.grad((found * weight).sum(), images)[0] for found in (ours, answers)]
    torch.testing.assert_close(ours, answers, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
    assert not {"forward"} & vars(chain[0]).keys()


def test_windows_that_overlap_or_leave_a_rest_commute_too():
    chain, images = transition(mean=nn.AvgPool2d(3, stride=(2, 1))), torch.randn(1, 4, 8, 9)
    expected = chain(images)
    with answering(swapped(means(chain), ())):
        torch.testing.assert_close(chain(images), expected, rtol=1e-5, atol=1e-6)
    assert len(means(chain)) == 1


@pytest.mark.parametrize(
    "mean",
    [
        nn.AvgPool2d(2, padding=1),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AvgPool2d(3, stride=1),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(2),
    ],
)
def test_what_is_no_such_mean_stays(mean):
    assert not means(transition(mean=mean))


@pytest.mark.parametrize("other", [{"stride": 2}, {"padding": 1}, {"kernel_size": 3}])
def test_what_reads_more_than_its_own_cell_stays(other):
    settings = {"kernel_size": 1} | other
    assert not means(nn.Sequential(nn.Conv2d(4, 6, **settings), nn.AvgPool2d(2)))


def test_what_has_another_place_a_forward_of_its_own_or_a_child_between_stays():
    shared = nn.AvgPool2d(2)
    assert not means(nn.Sequential(transition(mean=shared), shared))
    for module in range(2):
        chain = transition()
        chain[module].forward = lambda values: values
        assert not means(chain)
    assert not means(nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.AvgPool2d(2)))

    class Backwards(nn.Sequential):
        def forward(self, values):
            return self[0](self[1](values))

    assert not means(Backwards(nn.Conv2d(4, 6, 1), nn.AvgPool2d(2)))


@pytest.mark.parametrize("place", [0, 1])
def test_who_listens_hears_what_the_module_says(place):
    chain, images, heard = transition(), torch.randn(1, 4, 6, 6), []
    pair = means(chain)
    expected = [chain[0](images), chain[:2](images)][place]
    for attach in (
        lambda: chain[place].register_forward_hook(lambda _m, _i, output: heard.append(output)),
        lambda: chain[place].register_forward_pre_hook(lambda _m, given: None),
        lambda: chain[place].register_full_backward_hook(lambda *_: None),
    ):
        handle = attach()
        assert not swapped(pair, ())
        with Shortcuts.of(chain).taken():
            chain(images)
        handle.remove()
    torch.testing.assert_close(heard[0], expected, rtol=0, atol=0)
    assert len(swapped(pair, ())) == 2
    assert not swapped(pair, {chain[place]})


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("layer", ["0.0", "0.1", "0.2", "0"])
def test_a_replay_around_the_pair_answers_as_the_network(ndim, layer):
    network = nn.Sequential(transition(ndim), nn.Flatten(), nn.LazyLinear(3)).eval()
    image = torch.randn(1, 4, *(6, 4, 4)[:ndim])
    expected = network(image)
    held = resumable(network, layer, image)
    assert not held.full
    torch.testing.assert_close(held(held.activation), expected, rtol=1e-5, atol=1e-6)


def test_a_network_that_calls_the_convolution_alone_is_found_out():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.chain = transition()

        def forward(self, images):
            return self.chain(images).mean((2, 3)) + self.chain[0](images).mean((2, 3))

    network, images = Twice().eval(), torch.randn(2, 4, 7, 7)
    assert means(network)
    forward = Forward()
    torch.testing.assert_close(forward(network, images), network(images), rtol=1e-5, atol=1e-6)
    assert forward.last is False
