"""The gradient CAMs: identities on linear heads, slow loops over the papers, foreign libraries, edge cases."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jaxtyping import config
from torch import nn

from medxai.attribution.cf_cam import CFCAM
from medxai.attribution.class_activation import CAM
from medxai.attribution.gradient_cams import (
    ElementwiseGradCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ShapleyCAM,
    XGradCAM,
)
from medxai.core.target import ClassScore, ContrastScore
from medxai.errors import LayerError, UsageError
from tests.networks import CONV, LAYER, POOL, images, net
from tests.peers import by_grad_cam, grad_cam_library, split
from tests.reference.helpers import out_of_place, relative

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
TARGET = ClassScore(1)


def curved(ndim, seed=0):
    """A layer ("1") whose head is neither linear nor even over positions."""
    torch.manual_seed(seed)
    head = [CONV[ndim](4, 5, 3, padding=1), nn.Softplus(), POOL[ndim](1), nn.Flatten(), nn.Linear(5, 3)]
    return nn.Sequential(CONV[ndim](1, 4, 3, padding=1), nn.ReLU(), *head).eval()


def small(ndim):
    return images(ndim, 2, (4, 5, 3))


@DIMENSIONS
def test_five_methods_are_one_on_a_pooled_linear_head(ndim):
    model, x = net(ndim).eval(), images(ndim)
    n = model[:5](x)[0, 0].numel()
    weighted = torch.einsum("k,bk...->b...", model[8].weight[1], model[:5](x)).detach()
    torch.testing.assert_close(CAM(layer=LAYER)(model, x, TARGET).maps, weighted, rtol=1e-5, atol=1e-6)
    for method in (GradCAM, HiResCAM, XGradCAM, ShapleyCAM):
        found = method(layer=LAYER, relu=False)(model, x, TARGET).maps
        torch.testing.assert_close(n * found, weighted, rtol=1e-4, atol=1e-5)


@DIMENSIONS
def test_the_map_sums_to_the_score_less_its_bias(ndim):
    model, x = net(ndim).eval(), images(ndim)
    scores = (model(x)[:, 1] - model[8].bias[1]).detach()
    hires = HiResCAM(layer=LAYER, relu=False)(model, x, TARGET).maps
    torch.testing.assert_close(hires.flatten(1).sum(1), scores, rtol=1e-5, atol=1e-6)
    cam = CAM(layer=LAYER)(model, x, TARGET).maps
    torch.testing.assert_close(cam.flatten(1).mean(1), scores, rtol=1e-5, atol=1e-6)


@DIMENSIONS
def test_hires_cam_is_complete_on_a_flattened_head_and_grad_cam_is_not(ndim):
    torch.manual_seed(0)
    x = small(ndim)
    body = nn.Sequential(CONV[ndim](1, 3, 3, padding=1), nn.ReLU())
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(body(x)[0].numel(), 2)).eval()
    expected = (model(x)[:, 1] - model[3].bias[1]).detach()
    hires, grad = (method(layer="1", relu=False)(model, x, TARGET).maps for method in (HiResCAM, GradCAM))
    torch.testing.assert_close(hires.flatten(1).sum(1), expected, rtol=1e-5, atol=1e-6)
    assert relative(grad, hires) > 0.1


def slowly(name, A, g):
    """One sample's map by loops over channels and cells, as the paper writes it; float64."""
    cells = list(itertools.product(*map(range, A.shape[1:])))
    out = np.zeros(A.shape[1:])
    for k in range(len(A)):
        S = sum(A[k][u] for u in cells)
        if name == "GradCAMPlusPlus":
            w = sum(g[k][u] ** 2 / (2 * g[k][u] ** 2 + S * g[k][u] ** 3) * max(g[k][u], 0) for u in cells if g[k][u])
        elif name == "XGradCAM":
            w = sum(g[k][u] * A[k][u] for u in cells) / S
        for u in cells:
            each = {"LayerCAM": max(g[k][u], 0) * A[k][u], "HiResCAM": g[k][u] * A[k][u]}
            each["ElementwiseGradCAM"] = max(g[k][u] * A[k][u], 0)
            out[u] += each[name] if name in each else w * A[k][u]
    return out


@DIMENSIONS
@pytest.mark.parametrize("method", [GradCAMPlusPlus, XGradCAM, LayerCAM, HiResCAM, ElementwiseGradCAM])
def test_equals_the_equation_cell_by_cell(method, ndim):
    model, x = curved(ndim), small(ndim)
    A, g = split(model, 2, x, 1)
    pairs = zip(A.double().numpy(), g.double().numpy(), strict=True)
    expected = torch.from_numpy(np.stack([slowly(method.__name__, *pair) for pair in pairs]))
    found = method(layer="1", relu=False)(model, x, TARGET).maps
    assert relative(found, expected.float()) < 1e-5


FOREIGN = {
    GradCAM: "GradCAM",
    GradCAMPlusPlus: "GradCAMPlusPlus",
    XGradCAM: "XGradCAM",
    LayerCAM: "LayerCAM",
    HiResCAM: "HiResCAM",
    ElementwiseGradCAM: "GradCAMElementWise",
}


@DIMENSIONS
@pytest.mark.parametrize("method", FOREIGN, ids=FOREIGN.get)
def test_equals_pytorch_grad_cam_at_layer_resolution(method, ndim):
    """The logits are scaled up so that the fixed 1e-6 in its Grad-CAM++ is nothing beside the gradients."""
    model, x = curved(ndim), images(ndim)
    with torch.no_grad():
        model[6].weight.mul_(1e6)
    theirs = by_grad_cam(FOREIGN[method], *split(model, 2, x, 1))
    assert relative(method(layer="1", relu=False)(model, x, TARGET).maps, theirs) < 1e-5


@DIMENSIONS
@pytest.mark.parametrize("method", [XGradCAM, LayerCAM])
def test_equals_torchcam(method, ndim):
    from torchcam import methods

    model, x = out_of_place(curved(ndim)), images(ndim, batch=1)
    with getattr(methods, method.__name__)(model, target_layer="1") as extractor:
        theirs = extractor(class_idx=1, scores=model(x), normalized=False)[0].detach()
    assert relative(method(layer="1")(model, x, TARGET).maps, theirs.relu()) < 1e-5


@DIMENSIONS
def test_shapley_cam_equals_pytorch_grad_cam(ndim):
    model, x = curved(ndim), images(ndim, batch=1)
    activation = model[:2](x).detach().requires_grad_()
    score = model[2:](activation)[0, 1]
    (slope,) = torch.autograd.grad(score, activation, create_graph=True)
    peer = grad_cam_library().ShapleyCAM
    method = peer.__new__(peer)
    method.activations_and_grads = SimpleNamespace(reshape_transform=None, release=lambda: None)
    weights = torch.from_numpy(method.get_cam_weights(x, None, None, activation, slope))
    theirs = torch.einsum("bk,bk...->b...", weights, activation.detach())
    assert relative(ShapleyCAM(layer="1", relu=False)(model, x, TARGET).maps, theirs) < 1e-5


@DIMENSIONS
def test_shapley_cam_of_a_quadratic_score_is_half_of_grad_cam(ndim):
    """y = sum A^2 has g = 2 A and H A = 2 A, so g - H A / 2 = A, half of Grad-CAM's weight."""

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = CONV[ndim](1, 3, 3)

        def forward(self, x):
            y = self.body(x).square().flatten(1).sum(1, keepdim=True)
            return torch.cat([y, y], 1)

    model, x = Quadratic(), images(ndim)
    shapley, grad = (method(layer="body", relu=False)(model, x, TARGET).maps for method in (ShapleyCAM, GradCAM))
    torch.testing.assert_close(2 * shapley, grad, rtol=1e-4, atol=1e-5)


def test_shapley_cam_goes_through_max_pooling():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3 * 3 * 4, 2)).eval()
    x = images(2)
    shapley, grad = (method(layer="1", relu=False)(model, x, TARGET).maps for method in (ShapleyCAM, GradCAM))
    torch.testing.assert_close(shapley, grad, rtol=1e-5, atol=1e-7)


@DIMENSIONS
def test_one_channel_gives_one_map_up_to_scale(ndim):
    torch.manual_seed(0)
    model = nn.Sequential(
        CONV[ndim](1, 1, 3), nn.ReLU(), CONV[ndim](1, 3, 3), nn.Softplus(), POOL[ndim](1), nn.Flatten(), nn.Linear(3, 2)
    ).eval()
    with torch.no_grad():
        model[0].weight.abs_()
        model[2].weight.abs_()
        model[6].weight.abs_()
    x = images(ndim)
    reference = unit(GradCAM(layer="1")(model, x, TARGET).maps)
    for method in (GradCAMPlusPlus, XGradCAM, ShapleyCAM, CFCAM):
        assert relative(unit(method(layer="1")(model, x, TARGET).maps), reference) < 1e-5


def unit(maps):
    return maps / maps.flatten(1).amax(1).view(-1, *[1] * (maps.ndim - 1))


@pytest.mark.parametrize("method", [GradCAM, XGradCAM, LayerCAM, HiResCAM, ElementwiseGradCAM, ShapleyCAM])
def test_a_scaled_logit_scales_the_map(method):
    model, x = curved(2), images(2)
    before = method(layer="1")(model, x, TARGET).maps
    with torch.no_grad():
        model[6].weight.mul_(3)
    assert relative(method(layer="1")(model, x, TARGET).maps, 3 * before) < 1e-5


def test_grad_cam_plus_plus_depends_on_the_scale_of_the_logits():
    model, x = curved(2), images(2)
    before = GradCAMPlusPlus(layer="1")(model, x, TARGET).maps
    with torch.no_grad():
        model[6].weight.mul_(100)
    after = GradCAMPlusPlus(layer="1")(model, x, TARGET).maps
    assert relative(after / after.max(), before / before.max()) > 0.01


def test_grad_cam_plus_plus_tells_of_negative_activations():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        model[0].bias.fill_(-5)
        model[3].weight.fill_(100)
    found = GradCAMPlusPlus(layer="0", relu=False)(model, images(2), TARGET)
    assert any("negative activations" in notice for notice in found.notices)
    assert bool(found.maps.isfinite().all())


def test_a_channel_that_sums_to_nothing_weighs_nothing():
    """Values 1 and -1 in one channel: sum g A / sum A has no value, and is not blown up by a small constant."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        model[0].weight.fill_(1)
    x = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])
    found = XGradCAM(layer="0", relu=False)(model, x, TARGET)
    assert not found.maps.any()
    assert found.status[0].reason == "zero map"


class Headed(nn.Module):
    def __init__(self, head):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.act = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.linear, self.last = nn.Linear(4, 3), nn.Linear(3, 3)
        self.wide, self.pointwise = nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.head = head

    def forward(self, x):
        return self.head(self, self.act(self.body(x)))


POOLED = {
    "adaptive pooling": lambda m, a: m.linear(nn.functional.adaptive_avg_pool2d(a, 1).flatten(1)),
    "full window": lambda m, a: m.linear(nn.functional.avg_pool2d(a, a.shape[2:]).flatten(1)),
    "mean": lambda m, a: m.linear(a.mean((2, 3))),
    "einsum": lambda m, a: m.linear(torch.einsum("bkij->bk", a) / a[0, 0].numel()),
    "halves": lambda m, a: m.linear(torch.cat([a[:, :2], a[:, 2:]], 1).sum((2, 3)) * (1 / a[0, 0].numel())),
}


@pytest.mark.parametrize("head", POOLED)
def test_cam_reads_the_weights_however_the_pooling_is_written(head):
    model, x = Headed(POOLED[head]).eval(), images(2)
    activation, weight = model.act(model.body(x)).detach(), model.linear.weight.detach()
    for target, row in ((TARGET, weight[1]), (ContrastScore(1, (0, 2)), weight[1] - (weight[0] + weight[2]) / 2)):
        expected = torch.einsum("k,bk...->b...", row, activation)
        assert relative(CAM(layer="act")(model, x, target).maps, expected) < 1e-5


def test_cam_reads_a_head_of_pointwise_convolutions():
    model, x = Headed(lambda m, a: m.pointwise(a).mean((2, 3))).eval(), images(2)
    expected = model.pointwise(model.act(model.body(x)))[:, 1] - model.pointwise.bias[1]
    assert relative(CAM(layer="act")(model, x, TARGET).maps, expected.detach()) < 1e-5


@pytest.mark.parametrize(
    ("culprit", "head"),
    [
        ("Relu", lambda m, a: m.pointwise(a).relu().mean((2, 3))),
        ("Softmax", lambda m, a: m.linear(a.mean((2, 3))).softmax(1)),
        ("Amax", lambda m, a: m.linear(a.amax((2, 3)))),
        ("Mul", lambda m, a: m.linear((a * a).mean((2, 3)))),
        ("Relu", lambda m, a: m.last(m.linear(a.mean((2, 3))).relu())),
        ("differ from cell to cell", lambda m, a: m.wide(a).mean((2, 3))),
    ],
)
def test_cam_refuses_a_head_that_has_no_weights_for_a_map(culprit, head):
    with pytest.raises(LayerError, match=culprit):
        CAM(layer="act")(Headed(head).eval(), images(2), TARGET)


def test_shapley_cam_reads_the_curvature_of_tokens():
    """Half a Hessian-vector product by finite differences of the gradient, on the tokens of a vision transformer."""
    from monai.networks.nets import ViT

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            sizes = {"hidden_size": 12, "mlp_dim": 16, "num_layers": 2, "num_heads": 2, "spatial_dims": 2}
            self.vit = ViT(1, (16, 16), (8, 8), classification=True, num_classes=3, **sizes)

        def forward(self, x):
            return self.vit(x)[0]

    model, x, steps = Logits().eval().double(), torch.rand(1, 1, 16, 16, dtype=torch.float64), {}

    def slope_at(scale):
        def scaled(_module, _args, output):
            tokens = output.detach()
            steps[scale] = torch.cat([tokens[:, :1], scale * tokens[:, 1:]], 1).requires_grad_()
            return steps[scale].clone()

        handle = model.vit.blocks[0].register_forward_hook(scaled)
        score = model(x)[0, 1]
        handle.remove()
        return torch.autograd.grad(score, steps[scale])[0][0, 1:]

    curvature = (slope_at(1 + 1e-4) - slope_at(1 - 1e-4)) / 2e-4
    weights = (slope_at(1) - curvature / 2).mean(0)
    expected = (steps[1].detach()[0, 1:] * weights).sum(1).view(1, 2, 2)
    found = ShapleyCAM(layer="vit.blocks.0", relu=False)(model.float(), x.float(), TARGET).maps
    assert relative(found.double(), expected) < 1e-3
    grad = GradCAM(layer="vit.blocks.0", relu=False)(model, x.float(), TARGET).maps
    assert relative(grad, found) > 1e-2


@DIMENSIONS
def test_xgrad_cam_refuses_to_divide_by_activations_that_cancel(ndim):
    """Behind an instance norm every channel sums to 0 but for rounding, and the quotient would be noise of any size."""
    torch.manual_seed(0)
    norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[ndim](4)
    head = [nn.Softplus(), POOL[ndim](1), nn.Flatten(), nn.Linear(4, 3)]
    model = nn.Sequential(CONV[ndim](1, 4, 3, padding=1), norm, *head).eval()
    found = XGradCAM(layer="1", relu=False)(model, images(ndim), TARGET)
    assert [status.reason for status in found.status] == ["zero map"] * 2
    assert any("4 of 4 channels" in notice for notice in found.notices)
    assert not XGradCAM(layer="2")(model, images(ndim), TARGET).notices


def test_images_that_are_no_tensor_are_refused_where_no_run_time_types_stop_them(monkeypatch):
    monkeypatch.setattr(config, "jaxtyping_disable", True)
    with pytest.raises(UsageError, match=r"Expected one tensor \(n, channel, \*space\)\. Found a list"):
        GradCAM(layer=LAYER)(net(2), [images(2)[0], images(2)[0, :, 1:]], TARGET)
