"""From a saliency, a case and a recipe to the questions that the model and the method are asked."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Resize

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.geometry import Geometry
from medxai.core.saliency import Status
from medxai.core.target import ClassScore, SignedScore
from medxai.core.volume import Case, Mask, Volume
from medxai.errors import GeometryError, TargetError, UsageError
from medxai.evaluation.agreement import agreement, sensitivity_to
from medxai.evaluation.asking import FAITHFULNESS, SANITY, Asking, evaluate_model, probe_of, trial_of
from medxai.explanation import explain
from medxai.io.recipe import Recipe
from medxai.metrics.curves import Perturbation
from medxai.metrics.imputation import Constant
from medxai.metrics.units import Cubes
from medxai.model.scoring import Scorer
from tests.networks import Planted, planted_case

SIZE = {2: (24, 27), 3: (24, 27, 30)}


def asked(ndim, units="mm", **facts):
    image, mask = planted_case(ndim, 1)
    step = (2.0, 1.0, 1.5)[:ndim]
    grid = Geometry(np.diag([*step, *[1.0] * (4 - ndim)]), tuple(image.shape[2:]), units)
    case = Case("one", Volume(image[0], grid), {"box": Mask(mask, grid)})
    recipe = Recipe.from_compose(Compose([Resize(SIZE[ndim], mode="trilinear" if ndim == 3 else "bilinear")]))
    asking = Asking(
        Planted(ndim),
        ClassScore(1),
        recipe,
        GradCAM(layer="act"),
        perturbation=Perturbation(Cubes(6.0 if units == "mm" else 3.0, "mm" if units == "mm" else "voxel"), Constant()),
        device="cpu",
        **facts,
    )
    return case, asking, explain(asking.model, case, asking.method, asking.target, recipe, device="cpu")


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_probe_lies_on_the_models_grid(ndim):
    case, asking, saliency = asked(ndim)
    probe = probe_of(saliency, case.image, asking)
    prepared = asking.recipe.apply(case.image)
    assert torch.equal(probe.image, prepared.images[0])
    assert probe.spacing == prepared.geometry.spacing_mm
    torch.testing.assert_close(probe.saliency, saliency.on(prepared.geometry))
    assert probe.intact == pytest.approx(float(asking.model(prepared.images).softmax(1)[0, 1].detach()), abs=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_question_is_answered_beside_noise(ndim):
    case, asking, saliency = asked(ndim)
    scores = {score.metric: score for score in evaluate_model(saliency, case.image, asking)}
    assert set(scores) == {*FAITHFULNESS, *SANITY}
    assert not any(isnan(scores[name].value) for name in FAITHFULNESS)
    for name in ("insertion", "comprehensiveness", "faithfulness_correlation"):
        assert scores[name].value > scores[name].chance["noise"]
    assert scores["deletion"].value < scores["deletion"].chance["noise"]
    (placed,) = evaluate_model(saliency, case.image, asking, ["deletion_placed"])
    assert placed.value > 0.6
    assert evaluate_model(saliency, case.image, asking, ["deletion"])[0].value == pytest.approx(
        probe_of(saliency, case.image, asking).deletion.area
    )
    alone = evaluate_model(saliency, case.image, replace(asking, method=None))
    assert {row.metric for row in alone} == {*FAITHFULNESS}


def test_a_degenerate_map_has_a_reason_and_no_score():
    case, asking, saliency = asked(2)
    silent = replace(saliency, status=Status("zero gradient"))
    assert {row.reason for row in evaluate_model(silent, case.image, asking)} == {"degenerate map: zero gradient"}


def test_voxels_suffice_where_millimetres_are_unknown():
    case, asking, saliency = asked(2, units="unknown")
    assert probe_of(saliency, case.image, asking).spacing is None
    assert not isnan(evaluate_model(saliency, case.image, asking, ["deletion"])[0].value)
    with pytest.raises(GeometryError, match="voxel size is unknown"):
        evaluate_model(saliency, case.image, replace(asking, perturbation=Perturbation(Cubes(4.0))), ["deletion"])


def test_a_domain_bounds_what_is_removed():
    case, asking, saliency = asked(2)
    grid = asking.recipe.apply(case.image).geometry
    domain = torch.zeros(grid.shape, dtype=torch.bool)
    domain[:10] = True
    probe = probe_of(saliency, case.image, asking, Mask(domain, grid))
    assert torch.equal(probe.scene.field, domain)
    with pytest.raises(GeometryError, match="another grid"):
        probe_of(saliency, case.image, asking, case.masks["box"])


def test_what_cannot_be_asked_is_refused():
    case, asking, saliency = asked(2)
    with pytest.raises(UsageError, match="does not ask the model"):
        evaluate_model(saliency, case.image, asking, ["pointing_game"])
    with pytest.raises(UsageError, match="No method"):
        trial_of([case.image], replace(asking, method=None))
    other = Volume(torch.rand(1, 9, 9), Geometry(np.eye(4), (9, 9)))
    with pytest.raises(UsageError, match="one shape"):
        trial_of([case.image, other], replace(asking, recipe=Recipe.identity()))


def test_the_softmax_of_one_output_is_refused():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 1))
    with pytest.raises(TargetError, match="softmax of a single output"):
        Scorer(model, SignedScore(), "softmax")(torch.rand(2, 1, 3, 3))
    with pytest.raises(TargetError, match="softmax of a single output"):
        Scorer(torch.nn.Sequential(model, torch.nn.Flatten(0)), SignedScore(), "softmax")(torch.rand(2, 1, 3, 3))
    assert Scorer(model, SignedScore(), "sigmoid")(torch.rand(2, 1, 3, 3)).shape == (2,)


@pytest.mark.parametrize("ndim", [2, 3])
def test_preprocessing_moves_the_map_as_far_as_is_said(ndim):
    case, asking, saliency = asked(ndim)
    same = agreement(saliency, saliency, case.image.geometry)
    assert same.spearman == pytest.approx(1)
    assert same.ssim == pytest.approx(1)
    assert (same.peak_distance, same.shared, same.reason) == (0, 1, "")
    plain = explain(asking.model, case, asking.method, asking.target, Recipe.identity(), device="cpu")
    found = sensitivity_to(saliency, {"no resampling": plain}, case.image.geometry)["no resampling"]
    assert 0.3 < found.spearman < 1
    assert found.peak_distance <= 6
    silent = replace(plain, status=Status("zero gradient"))
    assert agreement(saliency, silent, case.image.geometry).reason == "degenerate map: zero gradient"
