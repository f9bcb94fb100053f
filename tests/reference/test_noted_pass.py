"""The pass that made the score is the one that is resumed, once, of one image, at its own layer."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from medxai.attribution.ablation import AblationCAM
from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.noisy import Noise, NoisyLayer
from medxai.attribution.bottleneck.objective import Objective
from medxai.attribution.bottleneck.search import Bottleneck, Settings
from medxai.attribution.gradient_cams import GradCAM
from medxai.attribution.masking_cams import ScoreCAM
from medxai.attribution.passes import one_pass
from medxai.core.target import ClassScore
from medxai.model.guard import seeded
from tests.networks import images, net, rising

LAYER, TARGET, CPU = "2", ClassScore(1), torch.device("cpu")
METHODS = (IBA(layer=LAYER, beta=0.1, steps=3, copies=2), AblationCAM(layer=LAYER))


def passes(model):
    """Counts how often the first layer ran."""
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    return seen


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_map_is_that_of_two_passes(method, ndim, monkeypatch):
    model, x = rising(net(ndim)).eval(), images(ndim, 1)
    counts, maps = [], []
    for noted in (True, False):
        monkeypatch.setattr(type(method), "resumes", noted)
        seen = passes(model)
        with seeded(0, CPU):
            maps.append(method(model, x, TARGET).maps)
        counts.append(len(seen))
    torch.testing.assert_close(*maps, rtol=0, atol=0)
    assert counts[0] == counts[1] - 1


def test_a_note_is_for_one_image_without_gradients_and_taken_once():
    model = rising(net(2)).eval()
    for x, graph, noted in ((images(2, 1), False, 1), (images(2, 2), False, 0), (images(2, 1), True, 0)):
        with one_pass(model, x, [TARGET], [LAYER], graph=graph, note=True) as seen:
            assert len(seen.noted) == noted
            assert seen.scores[0].requires_grad == graph
            seen.resumable(seen.captured[0].layer, [0])
            assert not seen.noted


def test_a_note_of_another_layer_is_not_used():
    model, x = rising(net(2)).eval(), images(2, 1)
    with one_pass(model, x, [TARGET], [LAYER, "4"], graph=False, note=True) as seen:
        held = seen.resumable(seen.captured[1].layer, [0])
        torch.testing.assert_close(held.activation, seen.captured[1].output, rtol=0, atol=0)
        torch.testing.assert_close(held(held.activation), model(x), rtol=1e-5, atol=1e-6)


class Overwrites(nn.Module):
    """A network that begins by writing over its input."""

    def __init__(self):
        super().__init__()
        self.inner = rising(net(2))

    def forward(self, x):
        return self.inner(x.mul_(0.5).add_(0.3))


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    "method", [*METHODS, GradCAM(layer=LAYER), ScoreCAM(layer=LAYER)], ids=lambda one: type(one).__name__
)
def test_a_network_that_writes_over_its_input_is_given_its_own(method, number):
    model, x = Overwrites().eval(), images(2, number)
    before = x.clone()
    with seeded(0, CPU):
        found = replace(method, layer="inner.2")(model, x, TARGET)
    with seeded(0, CPU):
        expected = method(model.inner, 0.5 * x + 0.3, TARGET)
    assert torch.equal(x, before)
    torch.testing.assert_close(found.scores, expected.scores)
    if not isinstance(method, ScoreCAM):  # whose masks leave other values than 0 once they are scaled
        torch.testing.assert_close(found.maps, expected.maps, rtol=1e-4, atol=1e-5)


def bottleneck(seen):
    return Bottleneck.at(seen, [NoisyLayer.of(seen.captured[0], None)], range(1), 3)


def test_noise_drawn_over_noise_is_that_of_new_memory():
    with one_pass(rising(net(2)).eval(), images(2, 1), [TARGET], [LAYER], graph=False) as seen:
        layer = bottleneck(seen).first
    noise = Noise([layer], 3, torch.Generator().manual_seed(5))
    dice = torch.Generator().manual_seed(5)
    for _ in range(3):
        (drawn,) = noise.drawn()
        torch.testing.assert_close(drawn[:, 0, 0], torch.randn(3, *layer.features.shape[1:], generator=dice))
    assert noise.drawn()[0].data_ptr() == drawn.data_ptr()


def test_stakes_that_are_known_are_not_asked_again():
    model = rising(net(2)).eval()
    settings, beta = Settings(2, 0.5, 2, (1.0, 1.0)), torch.tensor([0.1])
    with one_pass(model, images(2, 1), [TARGET], [LAYER], graph=False) as seen:
        neck = bottleneck(seen)
        first = neck.search(Objective().keep, beta, settings)
        ran = []
        model[-1].register_forward_hook(lambda _m, given, _o: ran.append(len(given[0])))
        again = neck.search(Objective().keep, beta, settings)
        asked = sum(ran)
        ran.clear()
        known = neck.search(Objective().keep, beta, settings, first.stakes)
    assert asked - sum(ran) == 8
    torch.testing.assert_close(known.bits, again.bits, rtol=0, atol=0)
