"""A batch normalisation in eval mode is the line that it draws."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from medxai.model.alter import answering
from medxai.model.layout import channels_last
from medxai.model.norms import by_line, lines

NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def filled(ndim, affine=True):
    torch.manual_seed(0)
    norm = NORMS[ndim](5, affine=affine).eval().requires_grad_(False)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 3)
    if affine:
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("affine", [True, False])
def test_values_and_gradients_are_those_of_the_module(ndim, affine):
    network = nn.Sequential(filled(ndim, affine), nn.ReLU(inplace=True))
    images = torch.randn(2, 5, *(3, 4, 6)[:ndim], requires_grad=True)
    weight = torch.randn_like(images)

    def asked():
        values = network(channels_last(images))
        return values, torch.autograd.grad((values * weight).sum(), images)[0]

    expected = asked()
    with answering(by_line(lines(network))):
        found = asked()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert "forward" not in vars(network[0])


def test_other_modules_have_no_line():
    class Doubled(nn.BatchNorm2d):
        def forward(self, values):
            return 2 * super().forward(values)

    training, unknown = nn.BatchNorm2d(5), nn.BatchNorm2d(5, track_running_stats=False).eval()
    halved = filled(2)
    halved.running_var = None
    hooked, wrapped = filled(2), filled(2)
    hooked.register_forward_pre_hook(lambda *_: None)
    wrapped.forward = lambda values: 2 * values
    network = nn.Sequential(
        filled(2), Doubled(5).eval(), training, unknown, nn.BatchNorm1d(5).eval(), hooked, wrapped, halved
    )
    assert list(lines(network)) == [network[0]]


def test_a_line_answers_only_where_it_is_what_the_module_would_say():
    norm, images = filled(2), torch.randn(2, 5, 3, 4)
    false = {norm: replace(lines(norm)[norm], slope=torch.zeros(1, 5, 1, 1))}

    def along(values):
        return bool((norm(input=values).std((0, 2, 3)) == 0).all())

    with answering(by_line(false)):
        assert along(channels_last(images))
        assert not along(images)
        norm.running_mean += 1
        assert not along(channels_last(images))
    with answering(by_line({norm: replace(lines(norm)[norm], slope=torch.zeros(1, 5, 1, 1))})):
        assert along(channels_last(images))
        norm.running_var = norm.running_var.clone()
        assert not along(channels_last(images))
    with answering(by_line({norm: replace(lines(norm)[norm], slope=torch.zeros(1, 5, 1, 1))})):
        norm.train()
        assert not along(channels_last(images))


@pytest.mark.parametrize("images", [torch.rand(2, 1, 3, 4), torch.rand(5, 3, 4), torch.rand(2, 5, 3, 4).double()])
def test_what_the_module_refuses_is_refused(images):
    norm = filled(2)
    images = channels_last(images) if images.ndim == 4 else images
    with pytest.raises((RuntimeError, ValueError)) as alone:
        norm(images)
    with answering(by_line(lines(norm))), pytest.raises(alone.type) as lined:
        norm(images)
    assert str(lined.value) == str(alone.value)


def test_a_forward_given_after_the_lines_were_read_is_run():
    norm, images = filled(2), channels_last(torch.randn(2, 5, 3, 4))
    known = lines(norm)
    norm.forward = lambda values: 2 * values
    with answering(by_line(known)):
        torch.testing.assert_close(norm(images), 2 * images, rtol=0, atol=0)


def test_features_of_other_axes_are_refused_by_the_module_itself():
    norm = filled(2)
    with answering(by_line(lines(norm))), pytest.raises(ValueError, match="expected 4D input"):
        norm(channels_last(torch.randn(2, 5, 3, 4, 6)))
