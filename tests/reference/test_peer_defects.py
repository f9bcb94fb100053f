"""What goes wrong in peers' class activation maps in ordinary use, each measured, and that ours does not do it."""

import warnings

import numpy as np
import pytest
import torch

from medxai.attribution.eigen_cams import EigenCAM
from medxai.attribution.full_grad import FullGrad
from medxai.attribution.gradient_cams import GradCAM, GradCAMPlusPlus
from medxai.attribution.guided import GuidedGradCAM
from medxai.attribution.smooth import SmoothGradCAMPlusPlus
from medxai.core.target import ClassScore
from medxai.errors import ModelError
from tests.networks import LAYER, images, net
from tests.peers import by_grad_cam, grad_cam_library, split

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def at_layer_resolution(_size):
    return lambda m: m


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())


def out_of_place(model):
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    return model


def by_monai(model, x, index, **options):
    from monai.visualize import GradCAM as Peer

    return Peer(nn_module=model, target_layers=LAYER, **options)(x, class_idx=index)


def relative(a, b):
    return float(((a - b).abs().max() / b.abs().max()).detach())


def correlation(a, b):
    return float(np.corrcoef(a.detach().flatten().numpy(), b.detach().flatten().numpy())[0, 1])


def test_monai_returns_the_map_upside_down_by_default():
    model, x = out_of_place(net(3).eval()), images(3, batch=1)
    ours = GradCAM(layer=LAYER)(model, x, ClassScore(1)).maps
    assert correlation(by_monai(model, x, 1, upsampler=at_layer_resolution), ours) < -0.999


def test_monai_mixes_the_classes_of_a_batch():
    model, x = out_of_place(net(2).eval()), images(2, batch=3)
    classes = torch.tensor([0, 1, 2])
    raw = {"upsampler": at_layer_resolution, "postprocessing": lambda m: m}
    mixed = by_monai(model, x, classes, **raw)[:, 0]
    summed = sum(by_monai(model, x, int(c), **raw)[:, 0] for c in classes)
    assert relative(mixed, summed) < 1e-4
    ours = GradCAM(layer=LAYER)(model, x, ClassScore((0, 1, 2))).maps
    for i, c in enumerate((0, 1, 2)):
        alone = by_monai(model, x[i : i + 1], c, **raw)[0, 0]
        assert relative(ours[i], alone) < 1e-4


def test_monai_leaves_its_hooks_and_wipes_no_gradient_of_ours():
    theirs, ours = out_of_place(net(2).eval()), out_of_place(net(2).eval())
    by_monai(theirs, images(2), 1)
    GradCAM(layer=LAYER)(ours, images(2), ClassScore(1))
    assert hooks(theirs) > 0
    assert hooks(ours) == 0


def test_monai_draws_a_map_of_nan_logits():
    model = out_of_place(net(2).eval())
    model[8].bias.data.fill_(torch.nan)
    theirs = by_monai(model, images(2, batch=1), 1)
    assert bool(torch.isfinite(theirs).all())
    assert float(theirs.max()) == 1
    ours = GradCAM(layer=LAYER)(model, images(2, batch=1), ClassScore(1))
    assert ours.status[0].reason == "the score is not finite"


def by_torchcam(name, model, x, index):
    from torchcam import methods

    with getattr(methods, name)(model, target_layer=LAYER) as extractor:
        return extractor(class_idx=index, scores=model(x), normalized=False)[0].detach()


@pytest.mark.parametrize("ndim", [2, 3])
def test_torchcam_leaves_the_denominator_out_of_grad_cam_plus_plus(ndim):
    """Its alpha is g^2, not g^2 / (2 g^2 + S g^3)."""
    model, x = out_of_place(net(ndim).eval()), images(ndim, batch=1)
    A, g = split(model, 5, x, 1)
    without = torch.einsum("bk,bk...->b...", (g.square() * g.relu()).flatten(2).sum(2), A).relu()
    theirs, ours = by_torchcam("GradCAMpp", model, x, 1), GradCAMPlusPlus(layer=LAYER)(model, x, ClassScore(1)).maps
    assert relative(theirs, without) < 1e-5
    assert relative(theirs / theirs.max(), ours / ours.max()) > 0.01


def test_torchcam_smooths_with_the_gradient_of_the_last_copy():
    """Without noise all copies are one, and still its Smooth Grad-CAM++ is not its own Grad-CAM++."""
    from torchcam.methods import SmoothGradCAMpp

    model, x = out_of_place(net(2).eval()), images(2, batch=1)
    with SmoothGradCAMpp(model, target_layer=LAYER, num_samples=1, std=1e-12) as extractor:
        model(x)
        theirs = extractor(class_idx=1, normalized=False)[0].detach()
    own = by_torchcam("GradCAMpp", model, x, 1)
    assert relative(theirs / theirs.max(), own / own.max()) > 0.01
    still = SmoothGradCAMPlusPlus(layer=LAYER, n=1, noise=0.0)(model, x, ClassScore(1)).maps
    assert torch.equal(still, GradCAMPlusPlus(layer=LAYER)(model, x, ClassScore(1)).maps)


def test_pytorch_grad_cam_adds_a_constant_that_outweighs_small_gradients():
    """A fixed 1e-6 in the denominator of Grad-CAM++: the same network in smaller units has another map."""
    model, x = out_of_place(net(2).eval()), images(2)
    with torch.no_grad():
        model[8].weight.mul_(1e-3)
    A, g = split(model, 5, x, 1)
    paper = torch.where(g > 0, 1 / (2 + A.sum((2, 3), keepdim=True) * g), 0) * g.relu()
    expected = torch.einsum("bk,bkij->bij", paper.sum((2, 3)), A)
    assert relative(GradCAMPlusPlus(layer=LAYER, relu=False)(model, x, ClassScore(1)).maps, expected) < 1e-5
    assert relative(by_grad_cam("GradCAMPlusPlus", A, g), expected) > 0.01


def test_pytorch_grad_cam_draws_the_complement_for_some_networks():
    """The sign of a principal component is arbitrary; clipped, half of the maps show everything but the evidence."""
    signs = []
    for seed in range(12):
        model, x = out_of_place(net(2, seed).eval()), images(2, batch=1)
        A, g = split(model, 5, x, 1)
        ours = EigenCAM(layer=LAYER)(model, x, ClassScore(1)).maps
        signs.append(correlation(by_grad_cam("EigenCAM", A, g), ours) > 0)
        assert correlation(ours, A.mean(1)) > 0
    assert 0 < sum(signs) < len(signs)


@pytest.mark.parametrize(("ndim", "found"), [(2, 3), (3, 0)])
def test_pytorch_grad_cam_finds_no_bias_in_volumes_and_never_that_of_the_head(ndim, found):
    """Its FullGrad takes two kinds of planar layers; this network has biases in four layers, the linear head's too."""
    model, x = out_of_place(net(ndim).eval()), images(ndim, batch=1)
    peer = grad_cam_library().FullGrad(model, [])
    biases = len(peer.bias_data)
    peer.activations_and_grads.release()
    assert biases == found
    ours = FullGrad()(model, x, ClassScore(1))
    assert float(ours.details["completeness_error"][0]) < 1e-4


def test_captum_guides_nothing_on_prelu_and_does_not_say_so():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import GuidedBackprop
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        *[torch.nn.Conv2d(1, 4, 3), torch.nn.PReLU(), torch.nn.Conv2d(4, 4, 3), torch.nn.PReLU()],
        *[torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)],
    ).eval()
    x = images(2, batch=1).requires_grad_()
    (plain,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = GuidedBackprop(model).attribute(x, 1)
    assert torch.equal(theirs, plain)
    with pytest.raises(ModelError, match="Prelu"):
        GuidedGradCAM(layer="3")(model, x.detach(), ClassScore(1))
