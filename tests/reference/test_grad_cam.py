"""Grad-CAM three ways: closed form, slow re-derivation from the paper, foreign libraries."""

import warnings

import pytest
import torch
from torch import nn

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from tests.networks import CONV, LAYER, POOL, images, net

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


@DIMENSIONS
def test_equals_cam_on_a_pooled_linear_head(ndim):
    """dy/dA_k(u) = W_ck / n for every u, so n * Grad-CAM is the CAM of Zhou et al. 2016."""
    model, x = net(ndim).eval(), images(ndim)
    activation = model[:5](x)
    cam = torch.einsum("k,bk...->b...", model[8].weight[1], activation)
    n = activation[0, 0].numel()
    found = GradCAM(layer=LAYER, relu=False)(model, x, ClassScore(1)).maps
    torch.testing.assert_close(found * n, cam.detach(), rtol=1e-5, atol=1e-6)


@DIMENSIONS
def test_equals_finite_differences_of_the_paper(ndim):
    """alpha_k = (1/Z) sum_u dy/dA_k(u), each derivative measured by moving one cell."""
    torch.manual_seed(0)
    head = nn.Sequential(CONV[ndim](2, 3, 3, padding=1), nn.Softplus(), POOL[ndim](1), nn.Flatten(), nn.Linear(3, 2))
    model = nn.Sequential(CONV[ndim](1, 2, 3, padding=1), nn.Tanh(), *head).double().eval()
    x = torch.rand(1, 1, *(3, 4, 3)[:ndim], dtype=torch.float64)
    activation = model[:2](x).detach()
    derivative = torch.zeros_like(activation)
    for cell in range(activation.numel()):
        step = torch.zeros_like(activation)
        step.view(-1)[cell] = 1e-5
        up, down = model[2:](activation + step)[0, 1], model[2:](activation - step)[0, 1]
        derivative.view(-1)[cell] = (up - down) / 2e-5
    alpha = derivative.flatten(2).mean(2)
    expected = sum(alpha[0, k] * activation[0, k] for k in range(2)).clamp(min=0)
    found = GradCAM(layer="1")(model, x.float(), ClassScore(1)).maps[0]
    torch.testing.assert_close(found, expected.detach().float(), rtol=1e-3, atol=1e-6)


@DIMENSIONS
def test_equals_captum(ndim):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import LayerGradCam
    model, x = net(ndim).eval(), images(ndim)
    for module in model:
        if isinstance(module, nn.ReLU):
            module.inplace = False
    found = GradCAM(layer=LAYER, relu=False)(model, x, ClassScore(1)).maps
    torch.testing.assert_close(
        found, LayerGradCam(model, model[4]).attribute(x, 1)[:, 0].detach(), rtol=1e-5, atol=1e-8
    )


@DIMENSIONS
def test_equals_torchcam_up_to_its_normalisation(ndim):
    from torchcam.methods import GradCAM as Foreign

    model, x = net(ndim).eval(), images(ndim, batch=1)
    for module in model:
        if isinstance(module, nn.ReLU):
            module.inplace = False
    with Foreign(model, target_layer="4") as extractor:
        theirs = extractor(class_idx=1, scores=model(x), normalized=False)[0]
    ours = GradCAM(layer=LAYER)(model, x, ClassScore(1)).maps
    torch.testing.assert_close(ours, theirs.detach().relu(), rtol=1e-5, atol=1e-8)
