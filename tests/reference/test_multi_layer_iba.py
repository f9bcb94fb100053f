"""Bottlenecks at several layers: the published product and sum, re-derived voxel by voxel from the layers' own maps."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from medxai.attribution.bottleneck.co_iba import CoIBA
from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.input_iba import InputIBA
from medxai.attribution.bottleneck.multi_layer import MultiLayerIBA
from medxai.attribution.bottleneck.path import LayerIntegratedGradients
from medxai.attribution.bottleneck.statistics import estimate
from medxai.core.target import ClassScore
from medxai.errors import UsageError
from medxai.model.footprint import footprint
from medxai.model.guard import seeded
from medxai.model.place import on_image
from medxai.model.trace import trace
from tests.networks import images, net, rising

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
LAYERS, TARGET, CPU = ("2", "4"), ClassScore(1), torch.device("cpu")
BRIEF = {"beta": 1.0, "steps": 5, "copies": 2}


def apart(model, x):
    """The bits of each layer, in the order in which they are drawn, laid on the image."""
    traced = trace(model, tuple(x.shape))
    with seeded(0, CPU):
        maps = [IBA(layer=layer, **BRIEF)(model, x, TARGET).maps for layer in LAYERS]
    places = [footprint(traced, layer) for layer in LAYERS]
    return [on_image(m[:, None], place, tuple(x.shape[2:]))[:, 0] for m, place in zip(maps, places, strict=True)]


def joined(model, x, **settings):
    with seeded(0, CPU):
        return MultiLayerIBA(method=IBA(**BRIEF), layers=LAYERS, **settings)(model, x, TARGET)


@DIMENSIONS
@pytest.mark.parametrize("threshold", [1.0, 1.03])
def test_product_keeps_the_bits_of_the_first_where_the_next_exceed_the_uniform_level(ndim, threshold):
    model, x = rising(net(ndim)), images(ndim)
    first, second = apart(model, x)
    found = joined(model, x, threshold=threshold)
    for sample in range(len(x)):
        voxels = second[sample].flatten().tolist()
        level = sum(v * v for v in voxels) ** 0.5 / len(voxels) ** 0.5
        expected = [b if v > threshold * level else 0.0 for b, v in zip(first[sample].flatten(), voxels, strict=True)]
        assert 0 < sum(v > threshold * level for v in voxels) < len(voxels)
        torch.testing.assert_close(found.maps[sample].flatten(), torch.tensor(expected))
    torch.testing.assert_close(found.details["bits"], found.maps.flatten(1).sum(1))
    assert found.amount == "bits"
    assert found.layer == ""


def test_a_product_that_the_threshold_left_empty_says_so():
    found = joined(rising(net(2)), images(2), threshold=100.0)
    assert [one.reason for one in found.status] == ["no voxel exceeds the threshold"] * 2
    assert not found.details["bits"].any()


@DIMENSIONS
def test_sum_weighs_the_layers_by_their_norms(ndim):
    model, x = rising(net(ndim)), images(ndim)
    first, second = (m / torch.stack([one.norm() for one in m]).view(-1, *[1] * ndim) for m in apart(model, x))
    found = joined(model, x, join="sum", weights=(3.0, 1.0))
    torch.testing.assert_close(found.maps, 3 * first + second)
    assert found.amount == ""


def test_bits_per_voxel_of_a_strided_layer_hold_the_bits_of_its_cells():
    model, x = rising(net(2)), torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with seeded(0, CPU):
        alone = IBA(layer="4", **BRIEF)(model, x, TARGET)
    with seeded(0, CPU):
        found = MultiLayerIBA(method=IBA(**BRIEF), layers=("4",))(model, x, TARGET)
    assert float(found.maps.sum()) == pytest.approx(float(alone.maps.sum()), rel=0.05)  # cells at the border reach out


def test_weights_of_a_product_are_refused():
    with pytest.raises(UsageError, match="Only a sum"):
        MultiLayerIBA(layers=LAYERS, weights=(1.0, 2.0))


def test_each_layer_has_the_noise_of_its_own_statistics():
    model, x = rising(net(2)), images(2)
    known = tuple(estimate(model, [images(2, 8)], layer) for layer in LAYERS)
    with seeded(0, CPU):
        alone = [IBA(layer=one.layer, statistics=one, **BRIEF)(model, x, TARGET) for one in known]
    found = joined(model, x, statistics=known)
    for one in alone:
        torch.testing.assert_close(found.details[f"noise score of {one.layer}"], one.details["noise score"])
    assert MultiLayerIBA(layers=LAYERS, statistics=list(known)) == MultiLayerIBA(layers=LAYERS, statistics=known)
    assert hash(MultiLayerIBA(layers=LAYERS, statistics=list(known)))
    with pytest.raises(UsageError, match="its own noise"):
        MultiLayerIBA(layers=LAYERS, statistics=known[:1])
    with pytest.raises(UsageError, match="its own noise"):
        MultiLayerIBA(layers=LAYERS, method=IBA(statistics=known[0]))


@pytest.mark.parametrize("method", [MultiLayerIBA, CoIBA])
def test_statistics_in_the_order_of_other_layers_are_refused(method):
    """Two layers of as many channels, so that no shape would tell."""
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    ).eval()
    x = images(2)
    known = [estimate(model, [images(2, 8)], layer) for layer in ("1", "auto")]
    with seeded(0, CPU):
        found = method(method=IBA(**BRIEF), layers=("1", "auto"), statistics=known)(model, x, TARGET)
    assert found.maps.shape[1:] == (x.shape[2:] if method is MultiLayerIBA else (7, 9))
    with pytest.raises(UsageError, match=r"another layer\. Expected those of layer '1'\. Found those of layer '3'"):
        method(method=IBA(**BRIEF), layers=("1", "3"), statistics=known[::-1])(model, x, TARGET)


def test_statistics_of_another_layer_are_refused_by_every_bottleneck_and_of_no_named_layer_taken():
    model, x = rising(net(2)), images(2)
    known, whole = estimate(model, [images(2, 8)], "2"), estimate(model, [images(2, 8)], "")
    for method in (
        IBA(layer="0", statistics=known),
        LayerIntegratedGradients(layer="0", statistics=known),
        InputIBA(layer="0", latent=IBA(statistics=known, **BRIEF)),
    ):
        with pytest.raises(UsageError, match="another layer"):
            method(model, x, TARGET)
    with pytest.raises(UsageError, match=r"those of the image.*latent=IBA\(statistics=.*estimate\(model, .*, ''\)"):
        InputIBA(layer="2", latent=IBA(**BRIEF), statistics=known)(model, x, TARGET)
    with seeded(0, CPU):
        found = InputIBA(layer="2", latent=IBA(**BRIEF), statistics=whole, **BRIEF)(model, x, TARGET)
    assert found.maps.shape == x[:, 0].shape
    unnamed = IBA(layer="0", statistics=replace(known, layer=""), **BRIEF)(model, x, TARGET)
    assert unnamed.layer == "0"
