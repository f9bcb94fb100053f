"""Laws that every metric obeys which asks the model or the method; a new row is judged here unasked."""

from dataclasses import replace
from math import isnan

import pytest
import torch

from medxai import catalog
from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from medxai.metrics.curves import Perturbation, even_levels
from medxai.metrics.imputation import Constant
from medxai.metrics.probe import Classes, Probe
from medxai.metrics.spec import NOT_FINITE, reason
from medxai.metrics.trial import Trial
from medxai.metrics.units import Cubes
from medxai.model.scoring import Answers, Scorer
from tests.metrics.methods import Edges, Nothing
from tests.metrics.probes import convolutional, draw
from tests.networks import LAYER, images, in_three_dimensions, net

ROWS = sorted(catalog.metrics().values(), key=lambda row: row.name)
PROBED = [row for row in ROWS if row.needs == "probe"]
TRIED = [row for row in ROWS if row.needs == "method"]

probed = pytest.mark.parametrize("metric", PROBED, ids=lambda m: m.name)
tried = pytest.mark.parametrize("metric", TRIED, ids=lambda m: m.name)
shapes = pytest.mark.parametrize("shape", [(9, 11), (6, 7, 8)], ids=["2d", "3d"])
dimensions = pytest.mark.parametrize("ndim", [2, 3], ids=["2d", "3d"])

COARSE = Perturbation(Cubes(3, "voxel"), Constant(), even_levels(6))


def trial(ndim, method, **facts):
    return Trial(method, net(ndim), images(ndim), ClassScore(1), draws=2, stages=2, link="softmax", **facts)


def state(model):
    flags = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return flags, [p.grad for p in model.parameters()], [p.requires_grad for p in model.parameters()]


@probed
@shapes
def test_a_map_that_says_nothing_is_undefined_with_its_reason(metric, shape):
    probe = convolutional(shape, perturbation=COARSE)
    for values, why in ((0.0, "zero map"), (torch.nan, "nothing to perturb"), (torch.inf, "infinite saliency")):
        assert reason(metric.fn(probe.of(torch.full(shape, values)))) == why


@probed
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
@pytest.mark.parametrize("intact", [0.5, None], ids=["changed", "always"])
def test_an_answer_that_is_no_number_is_undefined_and_said_so(metric, wrong, intact):
    probe = convolutional((9, 11), perturbation=COARSE)

    def score(x):
        same = (x == probe.image).flatten(1).all(1)
        return torch.where(same, wrong if intact is None else intact, wrong)

    classes = Classes(lambda x: score(x)[:, None] * torch.tensor([1.0, 0.5]), asked=(1,), others=(0,))
    found = metric.fn(replace(probe, score=score, classes=classes))
    assert reason(found) == ("" if metric.name == "shown_share" else NOT_FINITE)
    assert isnan(found) == bool(reason(found))


@probed
@shapes
def test_the_seed_decides_scale_does_not_and_the_range_is_kept(metric, shape):
    probe = convolutional(shape, perturbation=COARSE)
    found = metric.fn(probe)
    assert metric.fn(replace(probe)) == found
    assert metric.span[0] <= found <= metric.span[1]
    assert metric.fn(probe.of(5 * probe.saliency)) == pytest.approx(found, rel=1e-5, abs=1e-6)


@probed
def test_a_metric_takes_units_and_baseline_where_it_says_so(metric):
    taken = set()

    def told(part, what):
        def watch(scene):
            taken.add(part)
            return what(scene)

        return watch

    watched = Perturbation(told("units", COARSE.partition), told("baseline", COARSE.baseline), COARSE.levels)
    metric.fn(convolutional((9, 11), perturbation=watched))
    assert taken == {part for part in ("units", "baseline") if metric.takes(part)}


@probed
@shapes
def test_the_batch_is_a_matter_of_memory(metric, shape):
    probe = convolutional(shape, perturbation=COARSE, batch=64)
    assert metric.fn(replace(probe, batch=3)) == pytest.approx(metric.fn(probe), rel=1e-3, abs=1e-5)


@probed
@shapes
def test_no_more_images_than_a_batch_exist_and_the_field_alone_changes(metric, shape):
    asked = []

    def watch(x):
        asked.append(x)
        return x.flatten(1).mean(1)

    domain = torch.ones(shape, dtype=torch.bool)
    domain[:2] = False
    image = draw(1, *shape)
    before = image.clone()
    classes = Classes(lambda x: torch.stack([watch(x), x.flatten(1).amax(1)], 1), asked=(0,), others=(1,))
    values = draw(*shape, seed=1)
    metric.fn(Probe(values, image, watch, domain=domain, perturbation=COARSE, batch=5, classes=classes))
    assert all(len(x) <= 5 for x in asked)
    assert all(torch.equal(x[:, :, ~domain], image[:, ~domain].expand(len(x), -1, -1)) for x in asked)
    assert torch.equal(image, before)


@probed
def test_one_slice_scores_as_the_plane(metric):
    """Units and baselines of voxels; supervoxels and noise see one more axis of one voxel."""
    flat = convolutional((9, 11), perturbation=COARSE)
    deep = in_three_dimensions(flat.score.model)
    solid = replace(
        flat,
        saliency=flat.saliency[None],
        image=flat.image[:, None],
        score=Scorer(deep, ClassScore(1), "softmax"),
        classes=replace(flat.classes, answers=Answers(deep)),
    )
    if metric.name == "irof":
        assert abs(metric.fn(solid) - metric.fn(flat)) < 0.02
    else:
        assert metric.fn(solid) == pytest.approx(metric.fn(flat), rel=1e-3, abs=1e-5)


@probed
def test_the_model_is_left_as_it_was_found(metric):
    probe = convolutional((9, 11), perturbation=COARSE)
    before = state(probe.score.model)
    metric.fn(probe)
    assert state(probe.score.model) == before


@tried
@dimensions
def test_a_method_without_a_map_is_undefined_and_the_model_is_left_alone(metric, ndim):
    asked = trial(ndim, Nothing())
    before = state(asked.model)
    found = metric.fn(asked)
    assert isnan(found)
    assert reason(found)
    assert state(asked.model) == before


@pytest.mark.parametrize("metric", [row for row in ROWS if row.needs != "probe"], ids=lambda m: m.name)
def test_what_has_no_probe_takes_no_perturbation(metric):
    assert not metric.takes("units")
    assert not metric.takes("baseline")


@pytest.mark.parametrize("name", ["adcc", "arcc"])
def test_a_mean_of_parts_has_none_of_a_model_that_answers_no_number(name):
    asked = trial(2, Edges())
    for weight in asked.model.parameters():
        weight.data.fill_(torch.nan)
    assert reason(catalog.metrics()[name].fn(asked)) == "all three parts are defined of no image"


@tried
@dimensions
def test_the_seed_decides_for_methods_too(metric, ndim):
    asked = trial(ndim, GradCAM(layer=LAYER))
    before, weights = state(asked.model), {k: v.clone() for k, v in asked.model.state_dict().items()}
    found = metric.fn(asked)
    assert metric.span[0] - 1e-6 <= found <= metric.span[1] + 1e-6
    assert metric.fn(replace(asked)) == found
    assert metric.fn(replace(asked, batch=1)) == pytest.approx(found, rel=1e-2, abs=1e-3)
    assert state(asked.model) == before
    assert all(torch.equal(weights[k], v) for k, v in asked.model.state_dict().items())


@tried
def test_the_callers_images_are_never_written(metric):
    asked = trial(2, Edges())
    before = asked.images.clone()
    metric.fn(asked)
    assert torch.equal(asked.images, before)
