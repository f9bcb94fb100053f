"""Curves worked out in closed form: an additive network, a constant one, and torchcam's metric as an oracle."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest
import torch

from medxai.errors import GeometryError, InputError
from medxai.metrics.correlation import sensitivity_n
from medxai.metrics.curves import Curve, Perturbation, even_levels
from medxai.metrics.deletion import (
    METRICS,
    deletion,
    deletion_placed,
    insertion,
    insertion_placed,
    monotonicity,
    oracle,
    placed,
)
from medxai.metrics.imputation import Constant, Reference
from medxai.metrics.probe import Probe
from medxai.metrics.spec import reason
from medxai.metrics.units import Cubes, Supervoxels, Voxels
from medxai.model.scoring import Scorer
from tests.metrics.probes import SHAPES, VOXELWISE, Linear, additive, constant, convolutional, draw

pytestmark = pytest.mark.filterwarnings("ignore:Any data type casting:UserWarning")
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@shapes
def test_the_exact_contribution_gives_the_closed_form(shape):
    """score(k) = total - the k largest contributions; its trapezoid over k / n."""
    probe = replace(additive(shape), perturbation=Perturbation(Voxels(), Constant(), even_levels(10_000)))
    effects = probe.saliency.double().flatten().sort(descending=True).values.numpy()
    left = effects.sum() - np.concatenate([[0], effects.cumsum()])
    area = np.trapezoid(left, np.linspace(0, 1, len(left)))
    assert deletion(probe) == pytest.approx(area, rel=1e-6)
    assert insertion(probe) == pytest.approx(effects.sum() - area, rel=1e-6)
    assert deletion_placed(probe) == pytest.approx(1)
    assert insertion_placed(probe) == pytest.approx(1)


@shapes
def test_a_random_order_of_an_additive_network_is_a_straight_line(shape):
    probe = additive(shape)
    found = placed(probe, draws=40)
    half = probe.intact / 2
    assert found.random == pytest.approx(half, abs=4 * found.spread / 40**0.5)
    assert deletion_placed(probe.of(-probe.saliency)) == pytest.approx(-1, abs=0.5)


@shapes
def test_a_uniform_map_is_chance(shape):
    probe = additive(shape)
    found = [deletion(replace(probe, saliency=torch.ones(shape), seed=seed)) for seed in range(40)]
    spread = float(np.std(found)) / 40**0.5
    assert float(np.mean(found)) == pytest.approx(probe.intact / 2, abs=4 * spread)


@shapes
def test_a_constant_network_has_a_constant_curve_and_no_ranking(shape):
    probe = constant(shape)
    assert deletion(probe) == pytest.approx(0.7)
    assert insertion(probe) == pytest.approx(0.7)
    assert isnan(deletion_placed(probe))
    assert reason(insertion_placed(probe)) == "the order makes no difference to this model"


@shapes
@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_a_map_that_says_nothing_is_undefined(shape, metric):
    probe = additive(shape)
    assert reason(metric.fn(probe.of(torch.zeros(shape)))) == "zero map"
    assert reason(metric.fn(probe.of(torch.full(shape, torch.nan)))) == "nothing to perturb"
    assert reason(metric.fn(probe.of(torch.full(shape, torch.inf)))) == "infinite saliency"
    broken = replace(probe, score=lambda x: torch.full((len(x),), torch.nan))
    assert reason(metric.fn(broken)) == "the model's answer is not finite"


@shapes
@pytest.mark.parametrize("metric", [deletion_placed, insertion_placed, sensitivity_n], ids=lambda fn: fn.__name__)
def test_one_answer_that_is_no_number_is_never_left_out(shape, metric):
    """Removed alone a voxel tells nothing, so there is no oracle and no correlation over single voxels."""
    whole = additive(shape)

    def score(x):
        alone = (x != whole.image).flatten(1).sum(1) == 1
        return whole.score(x).masked_fill(alone, torch.nan)

    assert not isnan(deletion(replace(whole, score=score)))
    assert not isnan(metric(whole))
    assert reason(metric(replace(whole, score=score))) == "the model's answer is not finite"


@shapes
def test_ends_are_the_image_and_its_baseline(shape):
    probe = replace(convolutional(shape), perturbation=Perturbation(Cubes(3, "voxel"), Constant(0.5), (0.3, 0.6)))
    blank = float(probe.score(torch.full((1, 1, *shape), 0.5)))
    assert probe.deletion.score[0] == pytest.approx(probe.intact)
    assert probe.deletion.score[-1] == pytest.approx(blank)
    assert probe.insertion.score[0] == pytest.approx(blank)
    assert probe.insertion.score[-1] == pytest.approx(probe.intact)
    assert probe.deletion.fraction[0] == 0
    assert probe.deletion.fraction[-1] == 1


@shapes
def test_the_fraction_is_of_voxels_not_of_units(shape):
    """Cubes at the far edge are smaller than the others."""
    probe = replace(additive(shape), perturbation=Perturbation(Cubes(4, "voxel"), Constant(), (0.5, 1.0)))
    units = probe.units
    first = probe.order < round(0.5 * units.count)
    assert float(probe.deletion.fraction[1]) == pytest.approx(float(units.sizes[first].sum() / units.sizes.sum()))
    assert float(units.sizes.sum()) == probe.saliency.numel()


@shapes
def test_voxels_outside_the_field_are_never_perturbed(shape):
    seen = []

    def watch(images):
        seen.append(images)
        return images.flatten(1).sum(1)

    values, domain = draw(*shape), torch.ones(shape, dtype=torch.bool)
    values[:2], domain[:, 5:] = torch.nan, False
    image = draw(1, *shape)
    probe = Probe(values, image, watch, domain=domain, perturbation=Perturbation(Cubes(2, "voxel"), Constant(9.0)))
    placed(probe)
    outside = ~probe.scene.field
    assert all(torch.equal(image[:, outside].expand(len(x), 1, -1), x[:, :, outside]) for x in seen)
    inside = torch.cat([x[:, :, probe.scene.field] for x in seen])
    assert bool(((inside == 9.0) | (inside == image[:, probe.scene.field])).all())
    assert bool((inside[1] == image[:, probe.scene.field]).any())
    assert max(len(x) for x in seen) <= probe.batch


@shapes
def test_curves_are_taken_once_and_the_seed_decides(shape):
    probe = convolutional(shape)
    assert probe.deletion is probe.deletion
    assert deletion(probe) == deletion(replace(probe))
    flat = [deletion(replace(probe, saliency=torch.ones(shape), seed=s)) for s in (0, 0, 1)]
    assert flat[0] == flat[1] != flat[2]


def test_of_many_units_the_oracle_asks_about_cubes():
    """80 x 60 voxels are asked in squares of 2; of a network that weighs them by squares, the oracle is exact."""
    weight = torch.rand(1, 1, 40, 30, generator=torch.Generator().manual_seed(1)).repeat_interleave(2, 2)
    weight = weight.repeat_interleave(2, 3)[0, 0]
    probe = Probe(weight, torch.ones(1, 80, 60), Linear(weight), perturbation=VOXELWISE, batch=64)
    assert probe.units.count == 4800
    worth, asked = oracle(probe)
    assert asked == 1200
    torch.testing.assert_close(worth, weight.flatten().double(), rtol=1e-4, atol=1e-4)
    found = placed(probe)
    assert (found.asked, found.value) == (1200, pytest.approx(1, abs=0.01))
    assert deletion_placed(probe.of(-weight)) == pytest.approx(-1, abs=0.1)


def test_the_score_rises_with_every_unit_that_speaks_for_it():
    """Three quarters of the pixels raise the score and a quarter, restored first, lower it."""
    weight = torch.ones(8, 8)
    weight[:2] = -1
    probe = Probe(
        weight, torch.ones(1, 8, 8), Linear(weight), perturbation=Perturbation(Voxels(), Constant(), even_levels(64))
    )
    assert monotonicity(probe) == 0.75
    assert monotonicity(probe.of(weight.abs())) < 1
    assert monotonicity(constant((9, 11))) == 1


def test_cubes_in_millimetres_follow_the_spacing():
    probe = additive((12, 12), Perturbation(Cubes(6.0)), spacing=(1.0, 3.0))
    assert probe.units.count == 2 * 6
    assert set(probe.units.sizes.tolist()) == {12.0}
    with pytest.raises(GeometryError, match="voxel size is unknown"):
        _ = additive((12, 12), Perturbation(Cubes(6.0))).units


@shapes
def test_supervoxels_follow_the_edges_of_the_image(shape):
    image = torch.zeros(1, *shape)
    image[..., shape[-1] // 2 :] = 1
    probe = Probe(draw(*shape), image, lambda x: x.flatten(1).sum(1), perturbation=Perturbation(Supervoxels(8)))
    labels = probe.units.labels
    left, right = labels[..., : shape[-1] // 2], labels[..., shape[-1] // 2 :]
    assert not set(left.unique().tolist()) & set(right.unique().tolist())
    assert probe.units.count > 2


@shapes
def test_the_area_of_torchcam_is_ours(shape):
    """torchcam 0.5.0 integrates over the true fraction with both ends (voxels, 20 steps, baseline given)."""
    from torchcam.metrics import DeletionInsertionMetric

    probe = convolutional(shape)
    values = probe.saliency
    model = probe.score.model.eval()
    blank = draw(1, *shape, seed=8)

    class Given:
        """Their metric around a map of ours."""

        def __init__(self):
            self.model = model

        def __call__(self, *_args, **_options):
            return [values[None]]

        def fuse_cams(self, cams):
            return cams[0]

        def _hooks_off(self):
            return torch.no_grad()

    theirs = DeletionInsertionMetric(Given(), lambda out: out.softmax(1), baseline=blank[None])
    theirs.update(probe.image[None], 1)
    step = -(-values.numel() // 20)
    levels = tuple(k / values.numel() for k in [*range(0, values.numel(), step), values.numel()])
    same = replace(probe, perturbation=Perturbation(Voxels(), Reference(blank), levels))
    assert deletion(same) == pytest.approx(theirs.summary()["deletion_auc"], abs=1e-6)
    assert insertion(same) == pytest.approx(theirs.summary()["insertion_auc"], abs=1e-6)


def test_areas_of_other_conventions_are_not_the_area():
    """One curve, 1 to 0 in ten steps: the mean of the points and the unscaled trapezoid are other numbers."""
    points = torch.linspace(1, 0, 11, dtype=torch.float64) ** 2
    found = Curve(torch.linspace(0, 1, 11, dtype=torch.float64), points).area
    assert found == pytest.approx(1 / 3, abs=0.002)
    assert abs(float(points[1:].mean()) - found) > 0.04  # without the start (Poly-CAM)
    assert float(torch.trapezoid(points)) == pytest.approx(10 * found)  # dx = 1 (Quantus): grows with the steps


def test_levels_outside_the_unit_interval_are_refused():
    with pytest.raises(InputError, match="Levels are fractions"):
        Perturbation(levels=(0.0, 1.5))


def test_the_model_is_left_in_training_mode():
    probe = convolutional((9, 11))
    assert probe.score.model.training
    assert isinstance(probe.score, Scorer)
    deletion(probe)
    assert probe.score.model.training
    assert VOXELWISE.levels[0] == 0
