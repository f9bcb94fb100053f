"""What goes wrong in peers' Grad-CAM in ordinary use, each measured, and that ours does not do it."""

import numpy as np
import pytest
import torch

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from tests.networks import LAYER, images, net

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
