"""Sensitivity and stability of maps whose change is known, captum's metric as an oracle."""

from dataclasses import replace

import pytest
import torch
from captum.metrics import sensitivity_max

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore, SignedScore
from medxai.metrics.equivariance import flip_equivariance, shift_equivariance, shifted
from medxai.metrics.robustness import (
    avg_sensitivity,
    input_stability,
    max_sensitivity,
    output_stability,
    representation_stability,
    sensitivities,
)
from medxai.metrics.spec import reason
from medxai.metrics.trial import Trial
from tests.metrics.methods import Edges, Gradient
from tests.metrics.probes import SHAPES, FlatLinear, draw
from tests.networks import LAYER, images, net, symmetric

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
dimensions = pytest.mark.parametrize("ndim", [2, 3])


def linear(shape, method, **facts):
    return Trial(method, FlatLinear(shape, classes=1), draw(3, 1, *shape) * 5, SignedScore(), **facts)


@shapes
def test_the_gradient_of_a_linear_network_never_moves(shape):
    for metric in (max_sensitivity, avg_sensitivity, input_stability, output_stability):
        assert metric(linear(shape, Gradient())) == pytest.approx(0, abs=1e-6)


@shapes
def test_gradient_times_image_moves_as_the_image_does(shape):
    """S = w x, so that |S' - S| / |S| = |w dx| / |w x|."""
    asked = linear(shape, Gradient(times_image=True), draws=4)
    weight = asked.model.head.weight.detach().reshape(shape)
    expected = torch.stack(
        [
            ((asked.nearby(d) - asked.images)[:, 0] * weight).flatten(1).norm(dim=1)
            / (asked.images[:, 0] * weight).flatten(1).norm(dim=1)
            for d in range(4)
        ]
    )
    torch.testing.assert_close(sensitivities(asked), expected.double(), rtol=1e-4, atol=1e-6)
    assert max_sensitivity(asked) == pytest.approx(float(expected.amax(0).mean()), rel=1e-4)
    assert avg_sensitivity(asked) == pytest.approx(float(expected.mean()), rel=1e-4)
    moved = torch.stack(
        [
            (asked.nearby(d) - asked.images).flatten(1).norm(dim=1) / asked.images.flatten(1).norm(dim=1)
            for d in range(4)
        ]
    )
    assert input_stability(asked) == pytest.approx(float((expected / moved).amax(0).mean()), rel=1e-4)
    answered = torch.stack([(asked.output(asked.nearby(d)) - asked.output(asked.images)).abs()[:, 0] for d in range(4)])
    assert output_stability(asked) == pytest.approx(float((expected / answered).amax(0).mean()), rel=1e-3)


@shapes
def test_the_radius_is_a_share_of_each_images_own_range(shape):
    asked = linear(shape, Gradient(), radius=0.1)
    span = asked.images.flatten(1).amax(1) - asked.images.flatten(1).amin(1)
    noise = (asked.nearby(0) - asked.images).flatten(1).abs().amax(1)
    assert bool((noise <= 0.1 * span + 1e-5).all())
    assert bool((noise > 0.09 * span).all())
    scaled = replace(asked, images=asked.images * 100 - 7)
    torch.testing.assert_close(scaled.reach, asked.reach * 100)


@dimensions
def test_captum_finds_the_same_maximum(ndim):
    """captum 0.9.0 with our own draws; its radius is in the units of the input, for all images alike."""
    asked = Trial(Gradient(), net(ndim).eval(), images(ndim, 3), ClassScore(1), draws=6, radius=0.1)
    drawn = torch.stack([asked.nearby(d) for d in range(6)], 1).flatten(0, 1)

    def explain(inputs):
        (found,) = asked.method.attribute(asked.model, inputs[0], (asked.target,))
        return (found.maps,)

    theirs = sensitivity_max(explain, asked.images, perturb_func=lambda _: (drawn,), n_perturb_samples=6)
    torch.testing.assert_close(sensitivities(asked).amax(0), theirs.double(), rtol=1e-5, atol=1e-7)


@dimensions
def test_images_whose_class_changes_are_left_out(ndim):
    asked = Trial(Gradient(), net(ndim), images(ndim), ClassScore(1), radius=0.0, draws=2)
    assert input_stability(asked) == 0
    assert output_stability(asked) == 0

    class Fickle(torch.nn.Module):
        """The mean of the image against that of the images before: any change changes the class."""

        def forward(self, x):
            odd = (x.flatten(1)[:, 0] != asked.images[0, 0].flatten()[0]).float()
            return torch.stack([odd, 0.5 + 0 * odd], 1) + 0 * x.flatten(1).sum(1, keepdim=True)

    fickle = Trial(Edges(), Fickle(), asked.images[:1], ClassScore(0), radius=0.1)
    assert reason(input_stability(fickle)) == "no changed image has a map of the same class"


@dimensions
def test_the_representation_is_the_explained_layer(ndim):
    asked = Trial(GradCAM(layer=LAYER), net(ndim), images(ndim), ClassScore(1), draws=2)
    model = asked.model.eval()
    ratios = []
    for d in range(2):
        first, second = (model[:5](x).flatten(1).double() for x in (asked.images, asked.nearby(d)))
        moved = (second - first).norm(dim=1) / first.norm(dim=1)
        ratios.append(sensitivities(asked)[d] / moved)
    expected = float(torch.stack(ratios).amax(0).mean().detach())
    assert representation_stability(asked) == pytest.approx(expected, rel=1e-4)
    assert reason(representation_stability(replace(asked, method=Gradient()))) == "the method explains no layer"


@dimensions
def test_a_network_that_commutes_with_flips_has_maps_that_do(ndim):
    model = symmetric(net(ndim))
    asked = Trial(GradCAM(layer="2"), model, images(ndim, 2), ClassScore(1))
    assert flip_equivariance(asked) == pytest.approx(1, abs=1e-4)
    assert flip_equivariance(replace(asked, model=net(ndim))) < 0.99
    assert flip_equivariance(replace(asked, method=Edges())) == pytest.approx(1)


@shapes
def test_a_fixed_place_does_not_follow_the_image(shape):
    """The gradient of a linear network stays where it is, whatever the image does."""
    asked = linear(shape, Gradient())
    assert abs(flip_equivariance(asked)) < 0.5
    assert abs(shift_equivariance(asked)) < 0.5
    assert shift_equivariance(replace(asked, method=Edges())) == pytest.approx(1, abs=0.02)


def test_a_shift_repeats_the_border():
    image = torch.arange(5.0).reshape(1, 1, 5, 1)
    assert shifted(image, 2, 2)[0, 0, :, 0].tolist() == [0, 0, 0, 1, 2]
