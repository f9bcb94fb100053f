"""The noise-free bottleneck: equal to captum's path, complete, and exact where the score is linear in the features."""

import pytest
import torch
from captum.attr import LayerIntegratedGradients as CaptumPath

from medxai.attribution.bottleneck.path import LayerIntegratedGradients
from medxai.attribution.bottleneck.statistics import FeatureStatistics
from medxai.attribution.gradient_cams import HiResCAM
from medxai.core.target import ClassScore
from tests.networks import LAYER, images, net
from tests.reference.helpers import out_of_place, relative

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def bent(ndim):
    """A network whose score is curved in the features of an early layer."""
    return out_of_place(net(ndim)).eval()


@DIMENSIONS
@pytest.mark.parametrize("layer", ["0", "2"])
def test_equals_captum(ndim, layer):
    model, x = bent(ndim), images(ndim)
    start = torch.full_like(x[:1], 0.3)
    mean = model[: int(layer) + 1](start).detach()[0]
    statistics = FeatureStatistics(mean, torch.ones_like(mean), torch.ones_like(mean), 1, "element", layer)
    theirs = CaptumPath(model, model[int(layer)]).attribute(
        x, start, torch.tensor([2, 0]), n_steps=16, method="gausslegendre"
    )
    ours = LayerIntegratedGradients(layer=layer, statistics=statistics, steps=16, relu=False)
    assert relative(ours(model, x, ClassScore((2, 0))).maps, theirs.sum(1).detach()) <= 1e-5


@DIMENSIONS
def test_adds_up_to_the_score_but_for_what_it_says(ndim):
    model, x = bent(ndim), images(ndim)
    found = [LayerIntegratedGradients(layer="0", steps=n, relu=False)(model, x, ClassScore(1)) for n in (10, 200)]
    for one in found:
        details = one.details
        total = details["start score"] + one.maps.flatten(1).sum(1) + details["unexplained"]
        torch.testing.assert_close(total, one.scores)
        torch.testing.assert_close(details["start score"], model[1:](torch.zeros_like(model[0](x)))[:, 1].detach())
    few, many = (float(one.details["unexplained"].abs().max()) for one in found)
    assert many < few
    assert many < 1e-3 * float(found[1].maps.abs().flatten(1).sum(1).min())


@DIMENSIONS
def test_one_step_is_enough_where_the_score_is_linear(ndim):
    model, x = net(ndim), images(ndim)
    found = LayerIntegratedGradients(layer=LAYER, steps=1, relu=False)(model, x, ClassScore(1))
    assert relative(found.maps, HiResCAM(layer=LAYER, relu=False)(model, x, ClassScore(1)).maps) <= 1e-5
    assert float(found.details["unexplained"].abs().max()) < 1e-5


def test_memory_bound_changes_nothing():
    model, x = bent(2), images(2)
    whole, parts = (LayerIntegratedGradients(layer="2", voxels=n)(model, x, ClassScore(1)) for n in (2**21, 2000))
    assert relative(parts.maps, whole.maps) <= 1e-5
