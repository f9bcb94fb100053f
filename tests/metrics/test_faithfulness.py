"""Drops, correlations, sufficiency, ROAD, RFxG and the matrix between models, in closed form and against oracles."""

from dataclasses import replace
from math import isnan
from statistics import harmonic_mean

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity

from benchmarks.ladder import SHAPES as SCENES
from benchmarks.ladder import planted
from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from medxai.errors import TargetError, UsageError
from medxai.metrics import correlation, deletion, drops, rfxg, sufficiency
from medxai.metrics.correlation import (
    effects,
    faithfulness_correlation,
    infidelity,
    infidelity_terms,
    pooled_sensitivity_n,
    sensitivity_n,
    sensitivity_n_curve,
)
from medxai.metrics.curves import Perturbation
from medxai.metrics.drops import adcc, arcc, average_drop, average_gain, average_increase, shown_share, soft_mask
from medxai.metrics.imputation import Constant
from medxai.metrics.intermodel import inter_model
from medxai.metrics.probe import ALPHAS, Classes, Probe
from medxai.metrics.rfxg import (
    class_group_contrastivity,
    contrastive_class_score,
    contrastive_group_score,
    path,
    pointwise_group_score,
)
from medxai.metrics.spec import reason
from medxai.metrics.sufficiency import comprehensiveness, irof, irof_curve, road
from medxai.metrics.sufficiency import sufficiency as kept_alone
from medxai.metrics.trial import Trial
from medxai.metrics.units import Cubes
from medxai.model.scoring import Answers, Scorer
from tests.metrics.methods import Edges, Gradient
from tests.metrics.probes import SHAPES, VOXELWISE, Linear, additive, constant, convolutional, draw
from tests.networks import LAYER, images, net

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
ROWS = [
    row for row in (*drops.METRICS, *correlation.METRICS, *sufficiency.METRICS, *rfxg.METRICS) if row.needs == "probe"
]


@shapes
def test_a_linear_score_is_explained_at_every_n(shape):
    probe = additive(shape)
    curve = sensitivity_n_curve(probe)
    assert min(curve) == 1
    assert max(curve) == round(0.8 * probe.units.count)
    assert list(curve.values()) == pytest.approx([1.0] * len(curve))
    assert sensitivity_n(probe) == pytest.approx(1)
    assert faithfulness_correlation(probe) == pytest.approx(1)
    assert sensitivity_n(probe.of(-probe.saliency)) == pytest.approx(-1)
    assert abs(sensitivity_n(probe.of(draw(*shape, seed=11)))) < 0.35


@shapes
def test_effects_are_sums_and_falls(shape):
    probe = replace(additive(shape), perturbation=Perturbation(Cubes(3, "voxel"), Constant()))
    found = effects(probe, 2, draws=10)
    torch.testing.assert_close(found.attributed, found.drop, rtol=1e-5, atol=1e-5)


@shapes
def test_pooling_sees_the_scale_of_each_image(shape):
    one = additive(shape)
    other = one.of(10 * one.saliency)
    assert pooled_sensitivity_n([one, one], 0.3) == pytest.approx(1)
    assert pooled_sensitivity_n([one, other], 0.3) < 0.99
    assert faithfulness_correlation(other) == pytest.approx(1)


@shapes
def test_the_gradient_of_a_linear_score_has_no_infidelity(shape):
    probe = additive(shape)
    gradient = probe.of(draw(*shape) - 0.3)
    assert infidelity(gradient) == pytest.approx(0, abs=1e-9)
    assert infidelity(gradient.of(7 * gradient.saliency)) == pytest.approx(0, abs=1e-9)
    assert infidelity(gradient.of(draw(*shape, seed=11) - 0.5)) > 0.1
    assert reason(infidelity(constant(shape))) == "no removal changes the score"


@shapes
def test_captum_finds_the_same_infidelity(shape):
    """captum 0.9.0 with normalize=True on our own perturbations, divided by the mean square of the drops."""
    probe = convolutional(shape, perturbation=VOXELWISE)
    steps, answered = [], []

    def watch(x):
        steps.append(probe.image - x)
        answered.append(probe.score(x))
        return answered[-1]

    watched = replace(probe, score=watch)
    _, drop = infidelity_terms(watched)
    taken = torch.cat([s for s in steps if len(s) > 1 or bool(s.any())])
    theirs = captum_infidelity(
        probe.score,
        lambda x: (taken, x - taken),
        probe.image[None],
        probe.saliency[None, None],
        n_perturb_samples=len(taken),
        normalize=True,
    )
    assert len(taken) == 100
    assert infidelity(probe) == pytest.approx(float(theirs) / float((drop**2).mean()), rel=1e-3)


@shapes
def test_unnormalised_infidelity_measures_the_scale_of_the_map(shape):
    """captum's default (normalize=False) calls a perfect map, multiplied by ten, bad."""
    probe = additive(shape).of(draw(*shape) - 0.3)
    a, b = infidelity_terms(probe)
    assert float(((a - b) ** 2).mean()) == pytest.approx(0, abs=1e-9)
    assert float(((10 * a - b) ** 2).mean()) == pytest.approx(81 * float((b**2).mean()), rel=1e-4)
    assert infidelity(probe.of(10 * probe.saliency)) == pytest.approx(0, abs=1e-9)


@shapes
def test_the_veiled_image_by_hand(shape):
    """score = mean of the image, baseline 0: p = mean x, p(x S) = mean x S."""
    image, values = draw(1, *shape), draw(*shape, seed=1)
    probe = Probe(values, image, lambda x: x.flatten(1).mean(1), perturbation=VOXELWISE)
    before, after = float(image.mean()), float((image[0] * values / values.max()).mean())
    assert average_drop(probe) == pytest.approx((before - after) / before, rel=1e-5)
    assert average_increase(probe) == 0
    assert average_gain(probe) == 0
    assert shown_share(probe) == pytest.approx(float((values / values.max()).mean()))
    inverse = replace(probe, score=lambda x: 1 - x.flatten(1).mean(1))
    assert average_increase(inverse) == 1
    assert average_drop(inverse) == 0
    assert average_gain(inverse) == pytest.approx((before - after) / before, rel=1e-5)


@shapes
def test_a_drop_needs_a_positive_score_and_a_positive_map(shape):
    probe = additive(shape)
    assert reason(average_drop(replace(probe, score=lambda x: -torch.ones(len(x))))) == "the score is not positive"
    assert reason(average_drop(probe.of(-draw(*shape) - 1))) == "no positive saliency"
    assert (
        reason(average_gain(replace(probe, score=lambda x: torch.ones(len(x))))) == "the score leaves nothing to gain"
    )


@shapes
def test_torchcam_finds_the_same_drop(shape):
    """torchcam 0.5.0's ClassificationMetric on a map whose maximum is 1."""
    from torchcam.metrics import ClassificationMetric

    probe = convolutional(shape, perturbation=VOXELWISE)
    mask = soft_mask(probe.saliency)

    class Given:
        model = probe.score.model.eval()

        def __call__(self, *_args, **_options):
            return [mask[None]]

        def fuse_cams(self, cams):
            return cams[0]

        def _hooks_off(self):
            return torch.no_grad()

    theirs = ClassificationMetric(Given(), lambda out: out.softmax(1))
    theirs.update(probe.image[None], 1)
    assert average_drop(probe) == pytest.approx(theirs.summary()["avg_drop"], abs=1e-6)
    assert average_increase(probe) == theirs.summary()["conf_increase"]


@pytest.mark.parametrize("ndim", [2, 3])
def test_adcc_is_the_harmonic_mean_of_its_parts(ndim):
    asked = Trial(GradCAM(layer=LAYER), net(ndim), images(ndim, 1), ClassScore(1), link="softmax")
    mask = soft_mask(asked.maps[0])
    seen = asked.images * mask
    other = asked.explain(seen)[0]
    coherency = (float(np.corrcoef(asked.maps[0].flatten(), other.flatten())[0, 1]) + 1) / 2
    before, after = (float(asked.scores(x)[0]) for x in (asked.images, seen))
    parts = [coherency, 1 - float(mask.mean()), 1 - max(0, before - after) / before]
    assert adcc(asked) == pytest.approx(harmonic_mean(parts), rel=1e-5)
    faithful = min(1.0, 2 * road(Probe(asked.maps[0], asked.images[0], asked.scores)))
    expected = harmonic_mean([*parts[:2], faithful]) if faithful > 0 else 0
    assert arcc(asked) == pytest.approx(expected, rel=1e-5)
    assert 0 < adcc(replace(asked, method=Edges())) < 1
    assert 0 < adcc(replace(asked, images=images(ndim, 3), method=Gradient(times_image=True))) < 1


@shapes
def test_what_is_removed_and_what_is_kept_by_hand(shape):
    probe = additive(shape)
    effect = probe.saliency.double().flatten().sort(descending=True).values
    counts = [max(1, round(share * len(effect))) for share in (0.01, 0.05, 0.1, 0.2, 0.5)]
    tops = np.mean([float(effect[:k].sum()) for k in counts])
    assert comprehensiveness(probe) == pytest.approx(tops, rel=1e-5)
    assert kept_alone(probe) == pytest.approx(float(effect.sum()) - tops, rel=1e-5)


def test_irof_of_a_mean_is_the_share_of_the_bright_segment():
    image = torch.zeros(1, 32, 32)
    image[:, 8:24, 8:24] = 1
    probe = Probe(image[0] + 0.1, image, lambda x: x[:, 0, 8:24, 8:24].flatten(1).mean(1) + 0.5)
    curve = irof_curve(probe)
    assert len(curve.score) > 20
    assert irof(probe) == pytest.approx(1 - curve.area / 1.5)
    assert irof(probe) > irof(probe.of(0.5 - image[0])) + 0.2
    assert reason(irof(replace(probe, score=lambda x: -torch.ones(len(x))))) == "the score is not positive"


@shapes
def test_road_of_a_map_and_of_its_inverse_are_opposite(shape):
    probe = convolutional(shape)
    assert road(probe) == pytest.approx(-road(probe.of(-probe.saliency)), abs=1e-6)
    assert road(constant(shape)) == pytest.approx(0)


def linear_answers(shape):
    weights = torch.stack([draw(*shape, seed=20 + k) for k in range(4)]) / np.prod(shape)
    return weights, lambda x: (x[:, 0, None] * weights).flatten(2).sum(2)


@shapes
def test_the_four_scores_of_rfxg_on_a_linear_model(shape):
    """p_k(alpha) - p_k(0) is minus the sum of w_k x over what was removed."""
    weights, answers = linear_answers(shape)
    probe = additive(shape, classes=Classes(answers, (0,), (1,)))
    found = path(probe)
    order = probe.saliency.flatten().argsort(descending=True)
    worth = (weights * probe.image[0]).flatten(1).double()[:, order]
    counts = [round(a * len(order)) for a in ALPHAS]
    lost = torch.stack([worth[:, :k].sum(1) for k in counts])

    def area(values):
        return float(torch.trapezoid(values, torch.tensor(ALPHAS, dtype=torch.float64)))

    torch.testing.assert_close(found.p, worth.sum(1) - lost, rtol=1e-5, atol=1e-6)
    a, b, rest = lost[:, 0], lost[:, 1], lost[:, [2, 3]].mean(1)
    cases = [
        (contrastive_class_score(found, 0, 1), (a - b) / 0.8),
        (contrastive_class_score(found, 0, 1, "released"), found.p[:, 0] - found.p[:, 1]),
        (class_group_contrastivity(found, 0, [0, 2, 3]), (a - rest) / 1.6),
        (class_group_contrastivity(found, 0, [0, 2, 3], "released"), (-a - rest) / 2),
        (pointwise_group_score(found, [2, 3]), rest / 0.8),
        (pointwise_group_score(found, [2, 3], "released"), rest),
        (contrastive_group_score(found, [0, 1], [2, 3]), ((a + b) / 2 - rest) / 1.6),
        (contrastive_group_score(found, [0, 1], [2, 3], "released"), (-(a + b) / 2 - rest) / 2),
    ]
    for value, expected in cases:
        assert value == pytest.approx(area(expected), rel=1e-4, abs=1e-6)
    with pytest.raises(TargetError, match="Unknown class"):
        pointwise_group_score(found, [4])


@shapes
def test_the_target_says_which_of_the_four_is_asked(shape):
    _, answers = linear_answers(shape)
    rows = {row.name: row.fn for row in rfxg.METRICS}
    asked = {
        "one": Classes(answers, (0,)),
        "a and b": Classes(answers, (0,), (1,)),
        "a and rest": Classes(answers, (0,), (2, 3)),
        "groups": Classes(answers, (0, 1), (2, 3)),
    }
    found = {
        question: {name for name, fn in rows.items() if not isnan(fn(additive(shape, classes=classes)))}
        for question, classes in asked.items()
    }
    four = {"ccs", "cgc", "pgs", "cgs"}
    expected = {"one": {"pgs"}, "a and b": four, "a and rest": four - {"ccs"}, "groups": {"pgs", "cgs"}}
    for question, names in expected.items():
        assert found[question] == {f"rfxg_{name}{form}" for name in names for form in ("", "_released")}
    probe = additive(shape, classes=asked["a and rest"])
    whole = path(probe)
    assert rows["rfxg_cgc"](probe) == class_group_contrastivity(whole, 0, [0, 2, 3])
    assert rows["rfxg_cgs_released"](probe) == contrastive_group_score(whole, [0], [2, 3], "released")
    assert reason(rows["rfxg_pgs"](additive(shape))) == "the target names no classes"
    with pytest.raises(UsageError, match="compares no classes"):
        path(additive(shape))


@shapes
def test_released_group_scores_cannot_tell_a_class_from_its_rival(shape):
    """Two classes of one evidence: nothing is contrasted, yet the released form is far from zero."""
    weights, _ = linear_answers(shape)
    classes = Classes(lambda x: (x[:, 0, None] * weights[[0, 0]]).flatten(2).sum(2), (0,), (1,))
    found = path(additive(shape, classes=classes))
    assert contrastive_group_score(found, [0], [1]) == pytest.approx(0, abs=1e-9)
    assert contrastive_group_score(found, [0], [1], "released") < -0.01


@shapes
def test_equal_maps_score_equally_whatever_the_model_robustness(shape):
    probe = additive(shape)
    fragile = replace(probe, score=Linear(3 * (draw(*shape) - 0.3)))
    third = replace(probe, score=Linear(draw(*shape, seed=5)))
    found = inter_model([probe, fragile, third])
    assert float(found.intra[0]) != pytest.approx(float(found.intra[1]))
    assert float(found.area[2, 0]) == float(found.area[2, 1])
    torch.testing.assert_close(found.centred.mean(1), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(found.inter, torch.zeros(3, dtype=torch.float64))
    other = replace(third, saliency=draw(*shape, seed=9))
    apart = inter_model([probe, fragile, other])
    assert float(apart.inter[2]) == pytest.approx(float((apart.area[:2, 2] - apart.area[:2].mean(1)).mean()))
    assert float(apart.inter[2]) > float(apart.inter[0])
    assert float(inter_model([probe, probe], restore=True).intra[0]) == pytest.approx(probe.insertion.area)
    with pytest.raises(UsageError, match="one image"):
        inter_model([probe, replace(probe, image=probe.image + 1)])
    with pytest.raises(UsageError, match="one image"):
        inter_model([probe])


@pytest.mark.parametrize("link", ["identity", "softmax", "sigmoid"])
def test_scores_are_read_after_the_link(link):
    model, x = net(2), images(2)
    logits = model.eval()(x).detach()
    expected = {"identity": logits, "softmax": logits.softmax(1), "sigmoid": logits.sigmoid()}[link]
    torch.testing.assert_close(Scorer(model.train(), ClassScore(2), link)(x), expected[:, 2])
    torch.testing.assert_close(Answers(model, link)(x), expected)
    assert model.training


def test_a_link_of_what_is_no_tensor_is_refused():
    class Tuple(torch.nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(TargetError, match="No softmax"):
        Scorer(Tuple(), ClassScore(0), "softmax")(images(2))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shape", SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("metric", [r for r in (*deletion.METRICS, *ROWS) if r.claims], ids=lambda m: m.name)
def test_the_ladder_is_ranked_as_claimed(shape, metric, seed):
    probe, ladder = planted(shape, seed)
    found = [metric.fn(probe.of(ladder[rung])) for rung in metric.claims]
    steps = np.diff(found) if metric.better == "lower" else -np.diff(found)
    assert (steps > 0).all(), dict(zip(metric.claims, found, strict=True))
