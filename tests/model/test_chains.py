"""Neighbours in a chain answer together only where that is what the network says."""

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from medxai.model.alter import answering
from medxai.model.chains import chains, quicker
from medxai.model.resume import resumable
from medxai.model.shortcuts import Shortcuts
from tests.model.pairs import block, transition


def test_what_has_a_forward_of_its_own_or_a_child_between_stays():
    for module in range(2):
        chain = transition()
        chain[module].forward = lambda values: values
        assert not quicker(chains(chain), ())
    assert not chains(nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.AvgPool2d(2)))

    class Backwards(nn.Sequential):
        def forward(self, values):
            return self[0](self[1](values))

    assert not chains(Backwards(nn.Conv2d(4, 6, 1), nn.AvgPool2d(2)))


def test_modules_that_several_chains_share_go_first_in_each():
    mean, images = nn.AvgPool2d(2), torch.randn(1, 4, 12, 8)
    chain = nn.Sequential(nn.Conv2d(4, 6, 1), mean, nn.Sequential(nn.Conv2d(6, 2, 1), mean), mean).eval()
    expected = chain(images)
    assert [len(pairs) for pairs in chains(chain).values()] == [1, 1]
    with answering(quicker(chains(chain), ())):
        torch.testing.assert_close(chain(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.Sequential, nn.ModuleList])
def test_an_empty_module_is_not_the_end_of_a_chain(kind):
    class Empty(kind):
        def forward(self, values):
            return values

    convolution = nn.Conv2d(4, 6, 1)
    chain = nn.Sequential(convolution, nn.AvgPool2d(2), Empty(), nn.ReLU(), nn.Sequential(), nn.Sigmoid()).eval()
    images = torch.randn(2, 4, 6, 6)
    expected = chain(images)
    with answering(quicker(chains(chain), ())):
        torch.testing.assert_close(chain(images), expected, rtol=1e-5, atol=1e-6)
    assert float(expected.detach().min()) == 0.5


def test_a_forward_given_after_the_chain_was_read_is_run():
    chain, images = transition(), torch.randn(1, 4, 6, 6)
    known = chains(chain)
    chain[0].forward = lambda values: values
    with answering(quicker(known, ())):
        torch.testing.assert_close(chain(images), torch.relu(chain[1](images)), rtol=0, atol=0)
    del chain[0].forward
    chain.forward = lambda values: values
    assert not quicker(known, ())


@pytest.mark.parametrize("place", [0, 1])
def test_who_listens_hears_what_the_module_says(place):
    chain, images, heard = transition(), torch.randn(1, 4, 6, 6), []
    known = chains(chain)
    expected = [chain[0](images), chain[:2](images)][place]
    for attach in (
        lambda: chain[place].register_forward_hook(lambda _m, _i, output: heard.append(output)),
        lambda: chain[place].register_forward_pre_hook(lambda _m, given: None),
        lambda: chain[place].register_full_backward_hook(lambda *_: None),
        lambda: chain[place].register_full_backward_pre_hook(lambda *_: None),
    ):
        handle = attach()
        assert not quicker(known, ())
        with Shortcuts.of(chain).taken():
            chain(images)
        handle.remove()
    torch.testing.assert_close(heard[0], expected, rtol=0, atol=0)
    assert len(quicker(known, ())) == 1
    assert not quicker(known, {chain[place]})


def test_who_listens_to_any_module_hears_all():
    chain, heard = block(), []
    known = chains(chain)
    assert quicker(known, ())
    handle = register_module_forward_hook(lambda module, *_: heard.append(module))
    try:
        with answering(quicker(known, ())):
            chain(torch.randn(1, 4, 7, 6))
    finally:
        handle.remove()
    assert {*chain} <= {*heard}


@pytest.mark.parametrize("chain", [block, transition])
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("layer", ["0.0", "0.1", "0.2", "0"])
def test_a_replay_around_the_pair_answers_as_the_network(chain, ndim, layer):
    network = nn.Sequential(chain(ndim), nn.Flatten(), nn.LazyLinear(3)).eval()
    image = torch.randn(1, 4, *(6, 4, 4)[:ndim])
    expected = network(image)
    held = resumable(network, layer, image)
    assert not held.full
    assert held.shortcuts.chains
    torch.testing.assert_close(held(held.activation), expected, rtol=1e-5, atol=1e-5)


class Asking(nn.Module):
    """Asks the convolution itself too, unseen beside what a large other answer is or while cells vary as they do."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.chain, self.how = nn.Conv2d(1, 4, 1), transition(bias=False), how

    def forward(self, images):
        features = self.stem(images)
        told, alone = self.chain(features).mean((2, 3)), self.chain[0](features)
        if self.how == "small":
            return torch.cat([1e5 + told, alone.relu().mean((2, 3))], 1)
        return told + 30 * (0.05 - alone.var((1, 2, 3))).relu()[:, None]


@pytest.mark.parametrize("how", ["small", "silent"])
def test_a_convolution_that_the_network_asks_alone_answers_for_itself(how):
    network, image = Asking(how).eval(), torch.randn(1, 1, 8, 8)
    held = resumable(network, "stem", image)
    assert held.shortcuts.chains
    changed = 0.3 * held.activation
    handle = network.stem.register_forward_hook(lambda *_: changed)
    expected = network(image)
    handle.remove()
    if how == "silent":
        heard = [bool(network.chain[0](values).var() < 0.05) for values in (held.activation, changed)]
        assert heard == [False, True]
    torch.testing.assert_close(held(changed)[:, -6:], expected[:, -6:], rtol=1e-5, atol=1e-6)
