"""Seg-XRes-CAM against a slow reading of its definition, and between the two methods it joins."""

from itertools import product
from typing import get_args

import pytest
import torch
from monai.networks.nets import UNet

from medxai.attribution.gradient_cams import GradCAM, HiResCAM
from medxai.attribution.segmentation_cams import Pool, SegXResCAM
from medxai.core.target import RegionScore
from medxai.errors import UsageError
from medxai.model.capture import capture

LAYER = "model.1.submodule.0"
SIZE = (20, 28, 12)
TARGET = RegionScore(1)


def unet(ndim):
    torch.manual_seed(0)
    return UNet(ndim, 1, 3, (4, 8, 8), (2, 2)).eval()


def images(ndim):
    return torch.rand(2, 1, *SIZE[:ndim], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pool", get_args(Pool))
@pytest.mark.parametrize("ndim", [2, 3])
def test_definition_cell_by_cell(ndim, pool):
    model, x, window = unet(ndim), images(ndim), (2, 3, 2)[:ndim]
    with capture(model, LAYER) as captured:
        output = model(x)
    with torch.enable_grad():
        score = TARGET(output)
    A, G = captured.activation.detach(), captured.gradient(score)
    wanted = torch.zeros(len(A), *A.shape[2:])
    for cell in product(*map(range, A.shape[2:])):
        box = [slice(c // w * w, c // w * w + w) for c, w in zip(cell, window, strict=True)]
        inside = G[(slice(None), slice(None), *box)].flatten(2)
        pooled = inside.max(2).values if pool == "max" else inside.mean(2)
        wanted[(slice(None), *cell)] = (pooled * A[(slice(None), slice(None), *cell)]).sum(1)
    found = SegXResCAM(layer=LAYER, window=window, pool=pool, relu=False)(model, x, TARGET)
    torch.testing.assert_close(found.maps, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ndim", [2, 3])
def test_between_hires_and_grad_cam(ndim):
    model, x = unet(ndim), images(ndim)
    finest = SegXResCAM(layer=LAYER, window=1)(model, x, TARGET).maps
    assert torch.equal(finest, HiResCAM(layer=LAYER)(model, x, TARGET).maps)
    coarsest = SegXResCAM(layer=LAYER, window=99, pool="mean")(model, x, TARGET).maps
    torch.testing.assert_close(coarsest, GradCAM(layer=LAYER)(model, x, TARGET).maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [0, (2,), (2, 2, 2)])
def test_window_that_does_not_fit(window):
    with pytest.raises(UsageError, match="windows of cells"):
        SegXResCAM(layer=LAYER, window=window)(unet(2), images(2), TARGET)
