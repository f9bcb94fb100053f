"""Guided Grad-CAM against captum, for every way to write a ReLU, and what it refuses."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from medxai.attribution.gradient_cams import GradCAM
from medxai.attribution.guided import GuidedGradCAM
from medxai.core.target import ClassScore
from medxai.errors import ModelError
from medxai.model.footprint import footprint
from medxai.model.place import on_image
from medxai.model.trace import trace
from tests.networks import CONV, images
from tests.reference.helpers import relative

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def forgotten(x, act):
    act(x)
    return x


RELUS = {
    "module": lambda m, x: m.first(x),
    "module in place": lambda m, x: m.inplace(x),
    "function": lambda m, x: functional.relu(x),
    "keyword": lambda m, x: functional.relu(input=x, inplace=False),
    "function in place": lambda m, x: forgotten(x, lambda t: functional.relu(t, inplace=True)),
    "function of torch": lambda m, x: torch.relu(x),
    "function of torch in place": lambda m, x: forgotten(x, torch.relu_),
    "method": lambda m, x: x.relu(),
    "method in place": lambda m, x: forgotten(x, torch.Tensor.relu_),
}


class Net(nn.Module):
    """conv, an activation written in some way, conv ("b"), ReLU, pooled linear head."""

    def __init__(self, ndim, act, last=None):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = CONV[ndim](2, 4, 3, padding=1), CONV[ndim](4, 6, 3, stride=2, padding=1)
        self.first, self.inplace, self.prelu = nn.ReLU(), nn.ReLU(inplace=True), nn.PReLU()
        self.last, self.linear, self.act = last or nn.ReLU(), nn.Linear(6, 3), act
        with torch.no_grad():
            self.linear.weight.abs_()

    def forward(self, x):
        return self.linear(self.last(self.b(self.act(self, self.a(x)))).flatten(2).mean(2))


def given(ndim):
    return images(ndim, 2).repeat(1, 2, *[1] * ndim) - 0.3


def by_captum(model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import GuidedBackprop

        return GuidedBackprop(model).attribute(x.clone().requires_grad_(), 1).detach()


@DIMENSIONS
@pytest.mark.parametrize("written", RELUS)
def test_equals_captum_s_guided_gradient_times_grad_cam(written, ndim):
    """captum sees modules only, so it is asked about the network whose ReLUs are modules."""
    plain, x = Net(ndim, RELUS["module"]).eval(), given(ndim)
    guided = by_captum(plain, x)
    where = GradCAM(layer="last")(plain, x, ClassScore(1)).maps[:, None]
    placed = on_image(where, footprint(trace(plain, tuple(x.shape)), "last"), tuple(x.shape[2:]))
    found = GuidedGradCAM(layer="last")(Net(ndim, RELUS[written]).eval(), x, ClassScore(1))
    assert relative(found.maps, (guided * placed).sum(1)) < 1e-5
    assert not found.notices
    assert found.layer == ""


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("PreluKernel", lambda m, x: m.prelu(x)),
        ("LeakyRelu", lambda m, x: functional.leaky_relu(x)),
        ("Hardtanh", lambda m, x: functional.relu6(x)),
        ("Silu", lambda m, x: functional.silu(x)),
        ("ClampMin", lambda m, x: torch.clamp_min(x, 0)),
    ],
)
def test_activations_that_keep_their_plain_gradient_are_named(name, act):
    found = GuidedGradCAM(layer="b")(Net(2, act).eval(), given(2), ClassScore(1))
    assert any(name in notice for notice in found.notices)


@pytest.mark.parametrize("smooth", [nn.SiLU, nn.GELU, nn.PReLU])
def test_a_network_without_relus_is_refused_by_name(smooth):
    activation = smooth()
    with pytest.raises(ModelError, match=f"(?i){smooth.__name__}"):
        GuidedGradCAM(layer="b")(Net(2, lambda m, x: activation(x), smooth()).eval(), given(2), ClassScore(1))


def test_guiding_ends_with_the_call():
    model, x = Net(2, RELUS["function"]).eval(), given(2).requires_grad_()
    (before,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    GuidedGradCAM(layer="b")(model, x.detach(), ClassScore(1))
    (after,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    assert torch.equal(before, after)
