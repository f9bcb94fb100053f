"""When a map says nothing: rounding that looks like structure, probabilities, regions without voxels."""

import pytest
import torch
from torch import nn

from medxai.attribution.gradient_cams import GradCAM, HiResCAM
from medxai.attribution.masking_cams import ScoreCAM
from medxai.attribution.status import judge
from medxai.attribution.tiled import Tiled
from medxai.core.target import ClassScore, RegionScore
from tests.networks import images, net

SATURATED = "seems to answer probabilities"


@pytest.mark.parametrize(("contrast", "reason"), [(1e-7, "constant map"), (1e-4, "")])
def test_rounding_of_a_constant_map_is_no_structure(contrast, reason):
    maps = 3 * (1 + contrast * torch.rand(2, 5, 6, 7))
    assert [status.reason for status in judge(maps, maps, torch.ones(2))] == [reason] * 2


def test_a_uniform_image_has_a_constant_map():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU())
    model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3)])
    model[6].weight.data.abs_()
    found = HiResCAM(layer="3")(model, torch.full((1, 1, 37, 41), 0.7), ClassScore(1))
    assert found.status[0].reason == "constant map"


@pytest.mark.parametrize("link", [nn.Sigmoid(), nn.Softmax(1)], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize(("bias", "saturated"), [(15.0, True), (0.0, False)])
def test_saturated_probabilities_draw_a_notice(link, bias, saturated):
    model = nn.Sequential(*net(2), link).eval()
    model[8].bias.data[1] = bias
    found = GradCAM(layer="4")(model, images(2), ClassScore(1))
    assert any(SATURATED in notice for notice in found.notices) == saturated


def test_logits_that_are_high_draw_none():
    model = net(2).eval()
    model[8].bias.data[1] = 15.0
    assert not GradCAM(layer="4")(model, images(2), ClassScore(1)).notices


@pytest.mark.parametrize("method", [GradCAM(layer="0"), ScoreCAM(layer="0"), Tiled(GradCAM(layer="0"), 8)])
def test_an_empty_region_is_told(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 1)).eval()
    model[1].bias.data[2] = -100
    empty = method(model, images(2, size=(8, 12)), RegionScore(2))
    assert not empty.status[0].ok
    assert "the region of class 2 is empty: there is nothing to explain" in empty.notices
    model[1].bias.data[2] = 100
    full = method(model, images(2, size=(8, 12)), RegionScore(2))
    assert not any("empty" in notice for notice in full.notices)
