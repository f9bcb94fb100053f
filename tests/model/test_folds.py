"""A convolution and the batch normalisation after it are one convolution, where a chain runs both."""

import pytest
import torch
from torch import nn

from medxai.model.alter import answering
from medxai.model.chains import chains, quicker
from medxai.model.forward import Forward
from medxai.model.resume import resumable
from tests.model.pairs import block


def asked(chain, images):
    """The answer, and whether the convolution ran with its own weight."""
    own, weights = chain[0]._conv_forward, []
    chain[0]._conv_forward = lambda values, weight, bias: weights.append(weight) or own(values, weight, bias)
    try:
        return chain(images), weights[0] is chain[0].weight
    finally:
        del chain[0]._conv_forward


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    "settings", [{}, {"bias": False}, {"groups": 2}, {"padding_mode": "circular"}, {"stride": 2}, {"kernel_size": 1}]
)
def test_values_and_gradients_are_those_of_the_two(ndim, affine, settings):
    chain = block(ndim, affine, **settings)
    images = torch.randn(2, 4, *(7, 6, 5)[:ndim], requires_grad=True)
    expected, alone = asked(chain, images)
    with answering(quicker(chains(chain), ())):
        found, own = asked(chain, images)
    assert (alone, own) == (True, False)
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((answer * weight).sum(), images)[0] for answer in (found, expected)]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def _overwrite(chain):
    chain[1].running_var *= 2


def _replace(chain):
    chain[0].weight = nn.Parameter(chain[0].weight + 1)


def _load(chain):
    chain[0].bias.data.zero_()
    chain.load_state_dict({name: value + 1 for name, value in chain.state_dict().items()})


def _point_elsewhere(chain):
    chain[0].weight.data = chain[0].weight.data + 1


def _turn(chain):
    chain[0].weight.data = chain[0].weight.data.transpose(2, 3)


def _soften(chain):
    chain[1].eps = 0.5


def _to_double(chain):
    chain.double()


def _train(chain):
    chain[1].train()


@pytest.mark.parametrize("change", [_overwrite, _replace, _load, _point_elsewhere, _turn, _soften, _to_double, _train])
def test_numbers_that_changed_are_read_by_the_modules_themselves(change):
    chain, images = block(), torch.randn(2, 4, 7, 6)
    answers = quicker(chains(chain), ())
    change(chain)
    images = images.to(chain[0].weight.dtype)
    expected = chain(images)
    with answering(answers):
        found, own = asked(chain, images)
    assert own
    if change is not _train:  # every pass in training moves the statistics
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_what_is_no_such_pair_stays():
    training, other, turned = block(), block(), block()
    training[1].train()
    other[1] = nn.InstanceNorm2d(6).eval()
    turned[0] = nn.ConvTranspose2d(4, 6, 3)
    parted = nn.Sequential(block()[0], nn.ReLU(), block()[1]).eval()
    wide = nn.Sequential(nn.Conv2d(4, 3, 3), block()[1]).eval()
    space = nn.Sequential(block()[0], block(3)[1]).eval()
    double = nn.Sequential(block()[0].double(), block()[1]).eval()
    scaled = block()
    nn.utils.parametrizations.weight_norm(scaled[0])
    assert not any(map(chains, (training, other, turned, parted, wide, space, double, scaled)))


def test_errors_of_the_two_are_those_that_one_reads():
    chain = block()
    with answering(quicker(chains(chain), ())), pytest.raises(ValueError, match="expected 4D input"):
        chain(torch.randn(4, 7, 6))


def test_a_batch_after_the_first_is_answered_as_the_first():
    network = nn.Sequential(block(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    run, images = Forward().on(network), torch.randn(3, 4, 8, 8)
    expected = network(images)
    for _ in range(2):
        torch.testing.assert_close(run(images), expected, rtol=1e-5, atol=1e-5)
    network[0][0].weight.mul_(2)
    changed = network(images)
    assert not torch.allclose(changed, expected, rtol=1e-2)
    torch.testing.assert_close(run(images), changed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", ["", "0.0"])
def test_numbers_made_in_inference_mode_are_folded_too(layer):
    with torch.inference_mode():
        network = nn.Sequential(block(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    image = torch.randn(1, 4, 8, 8)
    held = resumable(network, layer, image)
    assert held.shortcuts.chains
    with torch.no_grad():
        torch.testing.assert_close(held(held.activation), network(image), rtol=1e-5, atol=1e-5)
