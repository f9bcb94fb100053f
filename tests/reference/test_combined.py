"""Several layers in one map: each on its own footprint, from one pass; held against torchcam where grids agree."""

import pytest
import torch
from monai.networks.nets import resnet18
from torch import nn

from medxai.attribution.combined import ALONE, Combined, LayerCAMFusion, RefineCAM
from medxai.attribution.gradient_cams import GradCAM, GradCAMPlusPlus, LayerCAM
from medxai.attribution.masking_cams import ScoreCAM
from medxai.core.target import ClassScore
from medxai.errors import LayerNotFoundError, UsageError
from medxai.model.layers import stages
from medxai.model.place import on_image
from medxai.model.trace import trace
from tests.networks import CONV, LAYER, POOL, images, net, rising
from tests.reference.helpers import out_of_place, relative, seen_batches

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
TARGET = ClassScore(1)


def on_voxels(found, x):
    return on_image(found.maps[:, None], found.footprint, tuple(x.shape[2:]))[:, 0]


def peak(maps):
    return maps / maps.flatten(1).amax(1).view(-1, *[1] * (maps.ndim - 1))


@DIMENSIONS
def test_layers_meet_on_the_image_each_by_its_own_footprint(ndim):
    model, x = rising(net(ndim)), images(ndim)
    method = ScoreCAM()
    shallow, deep = (ScoreCAM(layer=layer)(model, x, TARGET) for layer in ("2", "4"))
    assert shallow.footprint != deep.footprint
    both = [on_image(peak(one.maps)[:, None], one.footprint, tuple(x.shape[2:]))[:, 0] for one in (shallow, deep)]
    layers = {"method": method, "layers": ("2", "4")}
    expected = {
        "mean": (both[0] + both[1]) / 2,
        "product": both[0] * both[1],
        "max": torch.maximum(*both),
    }
    for how, wanted in expected.items():
        found = Combined(**layers, how=how)(model, x, TARGET)
        assert found.layer == ""
        assert found.maps.shape == x[:, 0].shape
        assert all(status.ok for status in found.status)
        torch.testing.assert_close(found.maps, wanted)
    weighted = Combined(**layers, weights=(3.0, 1.0))(model, x, TARGET).maps
    torch.testing.assert_close(weighted, (3 * both[0] + both[1]) / 4)
    assert set(found.details) == {"masks of 2", "masks of 4"}


@DIMENSIONS
def test_one_clean_pass_serves_all_layers_and_targets(ndim):
    model, x = net(ndim), images(ndim)
    with seen_batches(model, keep=True) as batches:
        found = Combined(layers=("2", "3", "4")).attribute(model, x, [ClassScore(c) for c in range(3)])
    assert [len(batch) for batch in batches if not batch.is_meta] == [2]  # beside it the trace, which has no values
    for c, one in enumerate(found):
        assert torch.equal(one.maps, Combined(layers=("2", "3", "4"))(model, x, ClassScore(c)).maps)


def same_grid(ndim):
    """Two layers whose cells are the image's voxels, where combining by array shape and by place is the same."""
    torch.manual_seed(3)
    conv = CONV[ndim]
    model = nn.Sequential(conv(1, 4, 3, padding=1), nn.ReLU(), conv(4, 5, 3, padding=1), nn.ReLU())
    model.extend([POOL[ndim](1), nn.Flatten(), nn.Linear(5, 3)])
    with torch.no_grad():
        model[6].weight.mul_(1e4)  # torchcam adds 1e-8 to what it divides by
    return model.eval()


@DIMENSIONS
def test_equals_torchcam_where_every_layer_has_the_grid_of_the_image(ndim):
    from torchcam import methods

    model, x = out_of_place(same_grid(ndim)), images(ndim)
    with methods.LayerCAM(model, target_layer=["1", "3"]) as extractor:
        maps = [m.relu() for m in extractor([1, 1], model(x), normalized=True)]
        fused = extractor.fuse_cams(maps)
    found = LayerCAMFusion(layers=("1", "3"))(model, x, TARGET).maps
    assert relative(found, fused.detach()) <= 1e-5
    with methods.LayerCAM(model, target_layer=["1", "3"]) as extractor:
        maps = extractor([1, 1], model(x), normalized=False)
    refined = methods.RefineCAM.fuse_cams([m.detach().relu() for m in maps], normalized=False)
    found = RefineCAM(method=LayerCAM(), layers=("1", "3"))(model, x, TARGET).maps
    assert relative(found, refined) <= 1e-5


@DIMENSIONS
def test_refinement_is_the_product_of_grad_cam_plus_plus(ndim):
    model, x = same_grid(ndim), images(ndim)
    maps = [GradCAMPlusPlus(layer=layer)(model, x, TARGET).maps for layer in ("1", "3")]
    unit = [(m - m.flatten(1).amin(1).view(-1, *[1] * ndim)) for m in maps]
    torch.testing.assert_close(RefineCAM(layers=("1", "3"))(model, x, TARGET).maps, peak(unit[0]) * peak(unit[1]))


def test_a_layer_that_says_nothing_is_named_and_counts_as_nothing():
    model, x = net(2, seed=4), images(2)
    with torch.no_grad():
        model[3].weight.abs_().neg_()
        model[3].bias.fill_(-1)
        model[3].bias[0] = 5
        model[3].weight[0] = -1e-30
    deep, shallow = (GradCAM(layer=layer)(model, x, TARGET) for layer in ("4", "2"))
    assert deep.status[0].reason == "constant map"
    assert not shallow.status[0].ok
    found = Combined(layers=("2", "4"))(model, x, TARGET)
    assert [status.reason for status in found.status] == ["constant map"] * 2
    assert "layer '4' counts as 0: constant map" in found.notices
    assert not found.maps.any()


def test_weights_must_fit_the_layers():
    for weights in ((1.0,), (1.0, -1.0), (0.0, 0.0)):
        with pytest.raises(UsageError, match="one weight"):
            Combined(layers=("2", "4"), weights=weights)


def test_an_unknown_layer_names_its_neighbours():
    with pytest.raises(LayerNotFoundError, match="Did you mean"):
        Combined(layers=("2", "layer4"))(net(2), images(2), TARGET)


def test_layers_may_be_a_list_or_one_name():
    model, x = net(2), images(2)
    several, alone = Combined(layers=["2", "4"]), Combined(layers="4")
    assert several == Combined(layers=("2", "4"))
    assert alone == Combined(layers=("4",))
    assert len({several, alone}) == 2
    assert several(model, x, TARGET).maps.shape == x[:, 0].shape
    with pytest.raises(UsageError, match="one weight"):
        Combined(layers=["2", "4"], weights=(1.0,))


def test_one_layer_alone_is_told():
    method = Combined(layers=(LAYER,))
    assert ALONE in method(net(2), images(2), ClassScore(1)).notices
    assert ALONE not in Combined(layers=("2", LAYER))(net(2), images(2), ClassScore(1)).notices


def test_without_names_the_last_layer_of_every_stride_is_joined():
    model, x = (
        resnet18(spatial_dims=3, n_input_channels=1, num_classes=3, conv1_t_stride=1),
        torch.rand(1, 1, 32, 32, 32),
    )
    unnamed = LayerCAMFusion()(model.eval(), x, ClassScore(1))
    assert stages(trace(model, tuple(x.shape))) == ("layer1", "layer2", "layer3", "layer4")
    named = LayerCAMFusion(layers=("layer1", "layer2", "layer3", "layer4"))(model, x, ClassScore(1))
    assert torch.equal(unnamed.maps, named.maps)
    assert ALONE not in unnamed.notices
    assert LayerCAMFusion(layers="auto") == LayerCAMFusion()
