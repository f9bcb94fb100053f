"""From a saliency, a case and a recipe to the questions that the model and the method are asked."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Orientation, Resize

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency, Status
from medxai.core.target import (
    ClassScore,
    ContrastScore,
    FinerScore,
    GroupContrastScore,
    GroupScore,
    MarginScore,
    RegionScore,
    RegressionScore,
    SignedScore,
)
from medxai.core.volume import Case, Mask, Volume
from medxai.errors import GeometryError, TargetError, UsageError
from medxai.evaluation.agreement import agreement, sensitivity_to
from medxai.evaluation.asking import Asking, compare_models, evaluate_model, probe_of, trial_of
from medxai.evaluation.presets import FAITHFULNESS, SANITY
from medxai.evaluation.question import groups, put
from medxai.explanation import explain
from medxai.io.recipe import Recipe
from medxai.metrics.curves import Perturbation
from medxai.metrics.imputation import Constant, Reference
from medxai.metrics.units import Cubes
from medxai.model.scoring import Scorer
from tests.metrics.probes import draw
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
        **{"link": "softmax", **facts},
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


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_reference_lies_where_the_explained_image_lies(ndim):
    """Stored the other way round it gives the same number, or is refused, as it is elsewhere."""
    case, asking, saliency = asked(ndim)
    grid, values = case.image.geometry, draw(*case.image.data.shape, seed=3)
    upright = replace(asking, recipe=Recipe.from_compose(Compose([Orientation("RAS", labels=None)])))
    turn = np.diag([-1.0, 1, 1, 1])
    turn[0, 3] = grid.shape[0] - 1
    flipped = Volume(values.flip(1), Geometry(grid.affine @ turn, grid.shape))
    far = grid.affine.copy()
    far[:3, 3] += 500
    wide = grid.affine * [3, 3, 3, 1]

    def score(asking, reference):
        prepared = asking.recipe.apply(reference)
        baseline = Reference(prepared.images[0], prepared.geometry)
        perturbation = replace(asking.perturbation, baseline=baseline)
        return evaluate_model(saliency, case.image, replace(asking, perturbation=perturbation), ["deletion"])[0].value

    plain = Volume(values, grid)
    if ndim == 3:
        assert score(upright, flipped) == pytest.approx(score(upright, plain), abs=1e-6)
    for elsewhere in (
        flipped,
        Volume(values, Geometry(far, grid.shape)),
        Volume(values, Geometry(wide, grid.shape)),
    ):
        with pytest.raises(GeometryError, match="lies elsewhere"):
            score(asking, elsewhere)
    assert 0 < score(asking, plain) < 1


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
    box = case.masks["box"]
    elsewhere = probe_of(saliency, case.image, asking, box).scene.field
    share = float(elsewhere.float().mean()) / float(box.data.float().mean())
    assert share == pytest.approx(1, abs=0.3)
    with pytest.raises(GeometryError, match="pixel size"):
        probe_of(saliency, case.image, asking, Mask(box.data, Geometry(np.eye(4), box.geometry.shape, "unknown")))


def test_nothing_guesses_how_an_output_becomes_a_score():
    case, asking, saliency = asked(2, link=None)
    with pytest.raises(UsageError, match="how this output becomes a score"):
        evaluate_model(saliency, case.image, asking, ["deletion"])
    with pytest.raises(UsageError, match="how this output becomes a score"):
        evaluate_model(saliency, case.image, asking, ["adcc"])
    assert not isnan(evaluate_model(saliency, case.image, asking, ["flip_equivariance"])[0].value)
    regression = replace(asking, target=RegressionScore(1))
    assert probe_of(saliency, case.image, regression).intact == pytest.approx(
        float(asking.model(asking.recipe.apply(case.image).images)[0, 1].detach()), abs=1e-6
    )


def test_the_target_says_which_classes_are_compared():
    case, asking, saliency = asked(2)
    names = ("rfxg_ccs", "rfxg_cgc", "rfxg_pgs", "rfxg_cgs")
    for target, defined in (
        (ClassScore(1), {"rfxg_pgs"}),
        (ContrastScore(1, (0,)), set(names)),
        (MarginScore(1), set(names)),
        (GroupContrastScore((1,), (0,)), set(names)),
    ):
        rows = evaluate_model(saliency, case.image, replace(asking, target=target), names)
        assert {row.metric for row in rows if not isnan(row.value)} == defined
    assert groups(GroupScore((0, 1)), torch.zeros(1, 2)) == ((0, 1), ())
    assert groups(SignedScore(), torch.zeros(1, 1)) is None


def test_models_are_compared_on_each_other():
    """The same map of two models that differ in their answers scores the same on either judge."""
    case, asking, saliency = asked(2)
    fragile = replace(asking, link="identity")
    found = compare_models([(case.image, [saliency, saliency]), (case.image, [saliency, saliency])], [asking, fragile])
    assert found.images == 2
    assert torch.equal(found.area[:, 0], found.area[:, 1])
    assert float(found.area[0, 0]) != float(found.area[1, 0])
    assert float(found.area[0, 0]) == pytest.approx(probe_of(saliency, case.image, asking).deletion.area)
    silent = replace(saliency, status=Status("zero gradient"))
    assert compare_models([(case.image, [saliency] * 2), (case.image, [saliency, silent])], [asking] * 2).images == 1
    with pytest.raises(UsageError, match="says something"):
        compare_models([(case.image, [saliency, silent])], [asking] * 2)
    with pytest.raises(UsageError, match="One map per model"):
        compare_models([(case.image, [saliency])], [asking] * 2)


class Segmenting(torch.nn.Module):
    """Two classes per pixel: the second wins where the image is above one half."""

    def forward(self, x):
        return {"logits": torch.cat([torch.zeros_like(x), 8 * (x - 0.5)], 1), "other": x}


def test_a_segmentation_is_asked_for_the_region_it_found_in_the_intact_image():
    image = torch.full((1, 16, 16), 0.2)
    image[:, 4:8, 4:10] = 0.9
    grid = Geometry(np.eye(4), (16, 16))
    volume = Volume(image, grid)
    asking = Asking(
        Segmenting(), RegionScore(1), Recipe.identity(), link="softmax", output="logits", device="cpu",
        perturbation=Perturbation(Cubes(2.0), Constant(0.2), (0.0, 0.1, 0.5, 1.0)),
    )  # fmt: skip
    saliency = Saliency(image[0] - 0.2, grid, grid, Provenance("test", {}, "", "", (), "", "", 0, "", 0.0, {}))
    probe = probe_of(saliency, volume, asking)
    p = (8 * (image[0] - 0.5)).sigmoid()
    region = image[0] > 0.5
    assert probe.intact == pytest.approx(float(2 * p[region].sum() / (p.sum() + region.sum())), abs=1e-6)
    left = (8 * torch.tensor(0.2 - 0.5)).sigmoid()
    empty = 2 * 24 * left / (256 * left + 24)
    assert float(probe.deletion.score[-1]) == pytest.approx(float(empty), abs=1e-6)
    assert 0 < evaluate_model(saliency, volume, asking, ["deletion_placed"])[0].value <= 1 + 1e-6
    logits = probe_of(saliency, volume, replace(asking, link="identity"))
    assert logits.intact == pytest.approx(24 * 8 * 0.4, rel=1e-5)


def test_the_classes_nearest_in_the_intact_image_stay_the_references():
    output = torch.tensor([[3.0, 2.9, 0.0, 2.5]])
    target = put(FinerScore(0, count=2, gamma=0.5), output, "softmax")
    assert target == ContrastScore(0, (1, 3), 0.5)
    assert groups(target, output) == ((0,), (1, 3))


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
