"""The mean of a 1x1 convolution is the convolution of the mean, where nothing but the mean reads it."""

import pytest
import torch
from torch import nn

from medxai.model.alter import answering
from medxai.model.chains import chains, quicker
from tests.model.pairs import transition


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
    with answering(quicker(chains(chain), ())):
        ours, fewer = cells_read(chain, images)
    assert fewer[0] < cells[0] / 2
    gradients = [torch.autograd.grad((found * weight).sum(), images)[0] for found in (ours, answers)]
    torch.testing.assert_close(ours, answers, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
    assert not {"forward"} & vars(chain[0]).keys()


def test_windows_that_overlap_or_leave_a_rest_commute_too():
    chain, images = transition(mean=nn.AvgPool2d(3, stride=(2, 1))), torch.randn(1, 4, 8, 9)
    expected = chain(images)
    with answering(quicker(chains(chain), ())):
        torch.testing.assert_close(chain(images), expected, rtol=1e-5, atol=1e-6)
    assert len(chains(chain)) == 1


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
    assert not chains(transition(mean=mean))


@pytest.mark.parametrize("other", [{"stride": 2}, {"padding": 1}, {"kernel_size": 3}])
def test_what_reads_more_than_its_own_cell_stays(other):
    settings = {"kernel_size": 1} | other
    assert not chains(nn.Sequential(nn.Conv2d(4, 6, **settings), nn.AvgPool2d(2)))


@pytest.mark.parametrize("width", [1, 4, 40, 64])
def test_what_would_be_more_work_stays(width):
    """Products and sums for each cell that a mean over 9 x 9, of which there is one for every 4 cells, leaves."""
    chain = nn.Sequential(nn.Conv2d(64, width, 1), nn.AvgPool2d(9, stride=2))
    as_it_stands, mean_first = 4 * 64 * width + 81 * width, 81 * 64 + 64 * width
    assert bool(chains(chain)) == (mean_first < as_it_stands)


def test_a_mean_that_has_become_another_follows_the_convolution_again():
    chain, images = transition(), torch.randn(1, 4, 6, 6)
    answers = quicker(chains(chain), ())
    chain[1].divisor_override = 3
    with answering(answers):
        torch.testing.assert_close(chain(images), chain[2](chain[1](chain[0](images))), rtol=0, atol=0)


def test_a_mean_over_channels_stays():
    assert not chains(nn.Sequential(nn.Conv2d(4, 6, 1), nn.AvgPool3d(2)))
