"""Noise strewn on features, laid in memory as the network reads them."""

import pytest
import torch

from medxai.attribution.bottleneck.draws import strewn
from medxai.model.layout import channels_last, lies_last


def like(ndim, last):
    features = torch.randn(1, 4, *(3, 5, 2)[:ndim])
    return channels_last(features) if last else features


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("each", [False, True])
def test_it_is_the_sum_and_its_gradient_that_of_autograd(ndim, last, each):
    torch.manual_seed(0)
    features = like(ndim, last and ndim > 1)
    space = features.shape[1:]
    drawn = torch.randn(3, 1, 1, *space)
    steady = torch.randn(*([3] if each else []), 2, 2, *space, requires_grad=True)
    width = torch.randn(2, 2, *space, requires_grad=True)
    ours, expected = strewn(steady, width, drawn, features), steady + width * drawn
    assert lies_last(ours.flatten(0, 2)) == (last and ndim > 1)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    weight = torch.randn_like(expected)
    found = [torch.autograd.grad((one * weight).sum(), (steady, width)) for one in (ours, expected)]
    for own, theirs in zip(*found, strict=True):
        assert own.shape == theirs.shape
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)


def test_double_precision_stays():
    drawn, features = torch.randn(2, 1, 1, 4, 3, 5), like(2, last=True)
    steady, width = (torch.randn(1, 1, 4, 3, 5, dtype=torch.float64) for _ in range(2))
    assert strewn(steady, width, drawn, features).dtype == torch.float64
    torch.testing.assert_close(strewn(steady, width, drawn, features), steady + width * drawn)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 3, 1, 1, 1), (4, 3, 5), (1, 4, 3, 5), (2, 1, 1, 3, 5)])
def test_what_is_the_same_everywhere_is_spread(shape):
    torch.manual_seed(0)
    drawn, features = torch.randn(2, 1, 1, 4, 3, 5), like(2, last=True)
    parts = [torch.randn(shape, requires_grad=True) for _ in range(2)]
    ours, expected = strewn(*parts, drawn, features), parts[0] + parts[1] * drawn
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    found = [torch.autograd.grad(one.pow(2).sum(), parts) for one in (ours, expected)]
    for own, theirs in zip(*found, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-4)
