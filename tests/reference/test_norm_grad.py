"""NormGrad against the outer products it never builds; MetaSaliency against a step taken by hand."""

import copy
import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy

from medxai.attribution.gradient_cams import GradCAM, HiResCAM
from medxai.attribution.meta import MetaSaliency
from medxai.attribution.norm_grad import NormGrad
from medxai.core.target import ClassScore, MarginScore
from medxai.errors import TargetError
from tests.networks import LAYER, images, net
from tests.peers import split
from tests.reference.helpers import relative
from tests.reference.test_eigen_cams import wide

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
AGGREGATES = {
    "norm": lambda v: v.norm(),
    "filter_norm": lambda v: v.relu().norm(),
    "sum": lambda v: v.sum(),
    "max": lambda v: v.max(),
}


def contribution(virtual, A, g, u):
    """The vector that cell u of one sample adds to the gradient of the virtual layer's weights."""
    own = g[(slice(None), *u)]
    if virtual == "bias":
        return own
    if virtual == "scaling":
        return A[(slice(None), *u)] * own
    reach = (-1, 0, 1) if virtual == "conv3x3" else (0,)
    around = [tuple(p + q for p, q in zip(u, step, strict=True)) for step in itertools.product(reach, repeat=len(u))]
    inside = [w for w in around if all(0 <= p < n for p, n in zip(w, A.shape[1:], strict=True))]
    return torch.outer(torch.cat([A[(slice(None), *w)] for w in inside]), own).flatten()


@DIMENSIONS
@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("virtual", ["bias", "scaling", "conv1x1", "conv3x3"])
def test_equals_the_virtual_layer_s_own_gradient(virtual, aggregate, ndim):
    model, x = wide(ndim, 3), images(ndim, 1, (4, 3, 3)) - 0.5
    A, g = (t[0] for t in split(model, 1, x, 1))
    cells = itertools.product(*map(range, A.shape[1:]))
    expected = torch.stack([AGGREGATES[aggregate](contribution(virtual, A, g, u)) for u in cells]).view(A.shape[1:])
    found = NormGrad(layer="0", virtual=virtual, aggregate=aggregate)(model, x, ClassScore(1)).maps[0]
    assert relative(found, expected) < 1e-5


def test_the_sum_of_scaling_is_hires_cam():
    model, x = wide(2, 5), images(2)
    found = NormGrad(layer="1", virtual="scaling", aggregate="sum")(model, x, ClassScore(1)).maps
    assert relative(found, HiResCAM(layer="1", relu=False)(model, x, ClassScore(1)).maps) < 1e-5


def test_the_bias_says_nothing_before_global_pooling():
    found = NormGrad(layer=LAYER, virtual="bias")(net(2), images(2), ClassScore(1))
    assert {status.reason for status in found.status} == {"constant map"}


@DIMENSIONS
@pytest.mark.parametrize("against", [False, True])
def test_meta_saliency_is_the_map_after_one_step_taken_by_hand(ndim, against):
    model, x, classes = net(ndim), images(ndim, 3), (0, 1, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    method = NormGrad(layer=LAYER)
    found = MetaSaliency(method=method, rate=0.1, against=against)(model, x, ClassScore(classes))
    for i, c in enumerate(classes):
        stepped = copy.deepcopy(model).eval()
        cross_entropy(stepped(x[i : i + 1]), torch.tensor([c])).backward()
        with torch.no_grad():
            for p in stepped.parameters():
                p.add_(p.grad, alpha=0.1 if against else -0.1)
        expected = method(stepped, x[i : i + 1], ClassScore(c)).maps[0]
        assert relative(found.maps[i], expected) < 1e-5
        assert relative(method(model, x[i : i + 1], ClassScore(c)).maps[0], expected) > 1e-3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_meta_saliency_goes_around_any_method_and_target():
    model, x = net(2), images(2)
    still = MetaSaliency(method=GradCAM(layer=LAYER, relu=False), rate=0.0, loss="score")(model, x, MarginScore(1))
    assert relative(still.maps, GradCAM(layer=LAYER, relu=False)(model, x, MarginScore(1)).maps) < 1e-5
    with pytest.raises(TargetError, match='loss="score"'):
        MetaSaliency(method=GradCAM(layer=LAYER))(model, x, MarginScore(1))
