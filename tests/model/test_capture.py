"""The graph starts at the layer, and what cannot carry a map says so."""

import pytest
import torch
from torch import nn

from medxai.errors import DisconnectedError, LayerError, LayerNotFoundError
from medxai.model.capture import capture
from tests.networks import LAYER, images, net


def test_gradient_equals_that_of_the_rest_of_the_network():
    model, x = net(3).eval(), images(3)
    with torch.no_grad(), capture(model, LAYER) as found:
        scores = model(x)[:, 1]
    start = model[:5](x).detach().requires_grad_()
    (expected,) = torch.autograd.grad(model[5:](start)[:, 1].sum(), start)
    assert torch.equal(found.activation.detach(), start.detach())
    assert torch.equal(found.gradient(scores), expected)
    assert torch.equal(found.gradient(scores), expected)


def test_what_follows_in_place_does_not_touch_the_record():
    model, x = net(2).eval(), images(2)
    with capture(model, "3") as found:
        scores = model(x)[:, 0]
    assert (found.activation < 0).any()
    assert found.gradient(scores).isfinite().all()


def test_gradient_mode_is_as_before():
    model, x = net(2).eval(), images(2)
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            with capture(model, LAYER):
                model(x)
            assert torch.is_grad_enabled() is mode


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.unused, self.pair, self.act = nn.Conv2d(1, 2, 3), nn.ReLU(), Pair(), nn.ReLU()
        self.inner = Twice()

    def forward(self, x):
        first, _ = self.pair(self.inner(self.body(x)))
        return self.act(self.act(first)).flatten(2).mean(2)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.act(x))


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("layer", "error", "says"),
    [
        ("bdy", LayerNotFoundError, "body"),
        ("pair", LayerError, "tuple"),
        ("act", LayerError, "more than once.*No block contains it: pick another layer"),
        ("inner.act", LayerError, r"more than once.*the block that contains it \('inner'\)"),
    ],
)
def test_a_layer_that_cannot_carry_a_map(layer, error, says):
    model = Odd()
    with pytest.raises(error, match=says) as caught, capture(model, layer):
        model(images(2))
    assert "''," not in str(caught.value)
    assert ", '']" not in str(caught.value)


def test_a_single_module_has_no_layer_to_name():
    model = nn.Conv2d(1, 2, 3)
    with pytest.raises(LayerNotFoundError, match="no layers at all"), capture(model, "conv"):
        model(images(2))


def test_a_layer_that_did_not_run():
    model = Odd()
    with capture(model, "unused") as found:
        model(images(2))
    with pytest.raises(LayerError, match="did not run"):
        _ = found.activation


def test_a_score_that_does_not_depend_on_the_layer():
    model, x = net(2).eval(), images(2)
    with capture(model, LAYER) as found:
        model(x)
    for scores in (torch.zeros(2), torch.ones(2, requires_grad=True) * 2):
        with pytest.raises(DisconnectedError, match="does not depend"):
            found.gradient(scores)


def test_the_image_is_the_layer_without_a_name():
    model, x = net(3).eval(), images(3)
    with capture(model, "") as image, capture(model, LAYER) as inner:
        scores = model(x)[:, 1]
    start = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(start)[:, 1].sum(), start)
    assert torch.equal(image.gradient(scores), expected)
    activation = model[:5](x).detach().requires_grad_()
    (deep,) = torch.autograd.grad(model[5:](activation)[:, 1].sum(), activation)
    assert torch.equal(inner.gradient(scores), deep)
