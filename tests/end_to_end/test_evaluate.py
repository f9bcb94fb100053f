"""The evaluator from its doors: presets, readers, labels, domains, chance; and what it refuses."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import medxai
from medxai.catalog import metrics
from medxai.cli.app import app
from medxai.core.annotation import SoftMask, agreed
from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency, Status
from medxai.core.volume import Mask, Volume
from medxai.errors import GeometryError, InputError, MaskError, UnknownNameError, UsageError
from medxai.evaluation import Chance, evaluate, evaluate_labels
from medxai.evaluation.case import reading_of
from medxai.evaluation.chance import Rows
from medxai.metrics.localisation import mass_in_mask
from medxai.metrics.reading import Reading
from tests.truth import command, patient, save

SHAPE = (24, 20, 16)
GRID = Geometry(np.diag([2.0, 2.0, 3.0, 1.0]), SHAPE)


def saliency(values, grid=GRID, status=None):
    status = status or Status()
    return Saliency(values, grid, grid, Provenance("test", {}, "", "", (), "", "", 0, "", 0.0, {}), status)


def ball(middle, radius=4):
    places = torch.stack(torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij"), -1)
    return ((places - torch.tensor(middle)) ** 2).sum(-1) < radius**2


@pytest.fixture
def case():
    torch.manual_seed(0)
    mask = ball((8, 8, 8))
    return saliency(mask + 0.3 * torch.rand(SHAPE)), Mask(mask, GRID)


def test_every_preset_of_a_map_and_a_mask(case):
    basic, full, published = (evaluate(*case, preset=name) for name in ("basic", "full", "chexlocalize"))
    assert len(full.scores) > 35 > len(basic.scores) > len(published.scores) == 2
    for score in full.scores:
        assert score.reason == ""
        assert np.isfinite([score.value, *score.chance.values()]).all()
    assert {s.metric for s in full.scores if s.bound} == {"best_iou", "best_dice"}
    assert basic["auroc"].skill() == pytest.approx(2 * basic["auroc"].value - 1)
    assert json.loads(json.dumps(full.as_dict(), allow_nan=False))["mask_voxels"] == int(case[1].data.sum())
    with pytest.raises(UnknownNameError, match="full"):
        evaluate(*case, preset="ful")
    with pytest.raises(UsageError):
        evaluate(*case, ["cascading_ssim"])


def test_chance_rows_and_p_values(case):
    image = Volume(torch.rand(1, *SHAPE), GRID)
    others = tuple(saliency(torch.rand(SHAPE)) for _ in range(3))
    found = evaluate(*case, chance=Chance(image, others, noise=True, places=39))
    assert list(found["auroc"].chance) == ["uniform", "centre", "edges", "body", "others", "noise"]
    assert found["auroc"].chance["noise"] == pytest.approx(0.5, abs=0.1)
    assert found["auroc"].p == pytest.approx(1 / 40)
    assert found["peak_distance"].p is None
    assert found == evaluate(*case, chance=Chance(image, others, noise=True, places=39))
    with pytest.raises(UsageError, match="19"):
        Chance(places=18)
    lesser = Volume(torch.rand(1, *SHAPE), Geometry(np.eye(4), SHAPE, "unknown"))
    with pytest.raises(GeometryError):
        evaluate(*case, chance=Chance(lesser))


def test_noise_is_the_mean_of_several_maps_that_are_drawn_anew_for_each_seed(case):
    """Of a large map of one."""
    unasked, again = evaluate(*case)["auroc"], evaluate(*case, chance=Chance(seed=1))["auroc"]
    assert list(unasked.chance) == ["uniform", "centre", "noise"]
    assert unasked.chance["noise"] != again.chance["noise"]
    rows = Rows(reading_of(*case), Chance())
    one, *others = (noisy.values for noisy in rows.maps["noise"])
    assert len(others) == 4
    assert not any(torch.equal(one, other) for other in others)
    each = [metrics()["auroc"].fn(noisy) for noisy in rows.maps["noise"]]
    assert rows.of(metrics()["auroc"])["noise"] == pytest.approx(np.mean(each))
    large = Reading(torch.rand(1500, 1000), torch.eye(1500, 1000) > 0, Geometry(np.eye(4), (1500, 1000)))
    assert len(Rows(large, Chance()).maps["noise"]) == 1


def test_within_a_domain_nothing_else_counts(case):
    """The map's mass beside the finding lies outside the organ."""
    found, mask = case
    organ = Mask(ball((8, 8, 8), 6), GRID)
    whole, within = evaluate(found, mask), evaluate(found, mask, domain=organ)
    assert within["mass_in_mask"].value > whole["mass_in_mask"].value
    values = found.data[organ.data]
    assert within["mass_in_mask"].value == pytest.approx(float(values[mask.data[organ.data]].sum() / values.sum()))
    assert within["mass_in_mask"].chance["uniform"] == pytest.approx(float(mask.data.sum() / organ.data.sum()))
    half = organ.data.clone()
    half[8:] = False
    cut = evaluate(found, mask, domain=Mask(half, GRID))
    assert any("outside the domain" in notice for notice in cut.notices)
    apart = evaluate(found, mask, domain=Mask(ball((20, 16, 12), 2), GRID))
    assert {score.reason for score in apart.scores} == {"empty mask"}
    assert any("100.0% of the mask lies outside the domain" in notice for notice in apart.notices)
    with pytest.raises(GeometryError):
        evaluate(found, mask, domain=Mask(organ.data, Geometry(np.eye(4), SHAPE)))


def test_labels_and_readers_are_scored_apart_and_together(case):
    found, mask = case
    other = Mask(ball((9, 8, 8)), GRID)
    many = evaluate_labels(found, {"one": mask, "two": other, "both": agreed([mask, other])})
    assert many["one"] == evaluate(found, mask)
    assert many["two"] == evaluate(found, other)
    assert many["both"].mask_voxels == pytest.approx((mask.data.sum() + other.data.sum()) / 2)
    mean = (many["one"]["mass_in_mask"].value + many["two"]["mass_in_mask"].value) / 2
    assert many["both"]["mass_in_mask"].value == pytest.approx(mean)
    assert np.isfinite(evaluate(found, SoftMask(0.5 * mask.data.float(), GRID))["peak_distance"].value)
    empty = evaluate(found, Mask(torch.zeros(SHAPE, dtype=torch.bool), GRID))
    assert {score.reason for score in empty.scores} == {"empty mask"}


def test_lengths_of_unknown_pixels_are_refused():
    grid = Geometry(np.eye(4), (16, 16), "unknown")
    mask = Mask(torch.eye(16).bool(), grid)
    found = saliency(torch.rand(16, 16), grid)
    scores = evaluate(found, mask, preset="full")
    for score in scores.scores:
        assert (score.reason == "the pixel size is unknown") == (score.unit != "")
        assert np.isnan(score.value) == (score.unit != "")
    with pytest.raises(GeometryError, match="Millimetres"):
        evaluate(found, mask, ["peak_distance"])


def test_a_degenerate_map_has_no_score(case):
    found = evaluate(saliency(case[0].data, status=Status("no positive evidence")), case[1], preset="full")
    assert {score.reason for score in found.scores} == {"degenerate map: no positive evidence"}
    assert np.isnan([score.value for score in found.scores]).all()


def test_a_map_that_points_nowhere_is_charged_with_the_diagonal(case):
    """Undefined all the same; an empty mask charges nobody."""
    edge = np.linalg.norm([(n - 1) * step for n, step in zip(SHAPE, (2, 2, 3), strict=True)])
    nowhere = evaluate(saliency(torch.zeros(SHAPE)), case[1], preset="full")
    charged = {score.metric: score.penalty for score in nowhere.scores if score.penalty is not None}
    assert set(charged) == {
        score.metric
        for score in nowhere.scores
        if score.metric.endswith(("distance", "5_at_half_maximum", "assd_at_half_maximum"))
    }
    assert all(value == pytest.approx(edge) for value in charged.values())
    assert np.isnan([score.value for score in nowhere.scores if score.penalty is not None]).all()
    assert nowhere["hd95_at_half_maximum"].as_dict()["penalty"] == pytest.approx(edge)
    nothing = evaluate(case[0], Mask(torch.zeros(SHAPE, dtype=torch.bool), GRID), preset="full")
    assert {score.penalty for score in (*nothing.scores, *evaluate(*case, preset="full").scores)} == {None}


@pytest.fixture
def files(case, tmp_path):
    found, mask = case
    for name, data in {
        "map": found.data,
        "mask": mask.data,
        "second": ball((9, 8, 8)),
        "organ": ball((8, 8, 8), 6),
        "labels": mask.data + 2 * (ball((16, 14, 8), 3) & ~mask.data),
        "other": torch.rand(SHAPE),
    }.items():
        nib.save(nib.Nifti1Image(data.float().numpy(), GRID.affine), tmp_path / f"{name}.nii.gz")
    return tmp_path


def call(*words):
    done = CliRunner().invoke(app, ["evaluate", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_line_says_what_the_library_does(case, files):
    words = (files / "map.nii.gz", files / "mask.nii.gz")
    rows = {row["metric"]: row for row in json.loads(call(*words, "--preset", "full", "--json"))["scores"]}
    library = evaluate(*case, preset="full")
    for score in library.scores:
        assert rows[score.metric]["value"] == pytest.approx(score.value, rel=1e-5, abs=1e-9)
    assert "upper bound" in call(*words, "--preset", "full")
    extra = (
        "--image", files / "other.nii.gz", "--other", files / "other.nii.gz", "--places", 19,
        "--domain", files / "organ.nii.gz", "--metric", "auroc", "--again", files / "other.nii.gz",
    )  # fmt: skip
    found = json.loads(call(*words, *extra, "--json"))
    assert list(found["scores"][0]["chance"]) == ["uniform", "centre", "edges", "body", "others", "noise"]
    bare = json.loads(call(*words, "--no-noise", "--json"))
    assert list(bare["scores"][0]["chance"]) == ["uniform", "centre"]
    assert found["scores"][0]["p"] <= 1
    assert abs(found["again"]["again 1"]["spearman"]) < 0.4
    assert "spearman" in call(*words, *extra)


def test_the_command_line_takes_readers_and_labels(files):
    readers = json.loads(call(files / "map.nii.gz", files / "mask.nii.gz", files / "second.nii.gz", "--json"))
    assert list(readers["annotations"]) == ["all readers", "reader 1", "reader 2"]
    labels = call(files / "map.nii.gz", files / "labels.nii.gz", "--label", 1, "--label", 2, "--json")
    found = json.loads(labels)["annotations"]
    assert list(found) == ["label 1", "label 2"]
    scores = [row["scores"] for row in found.values()]
    assert scores[0][3]["value"] > 3 * scores[1][3]["value"]
    assert "reader 2:" in call(files / "map.nii.gz", files / "mask.nii.gz", files / "second.nii.gz")


def test_the_share_of_each_structure_of_an_atlas(files, tmp_path):
    """Two halves of the field: the shares are those of the array, and sum to 1."""
    values = nib.load(files / "map.nii.gz").get_fdata()
    labels = np.zeros(SHAPE, np.int16)
    labels[:12], labels[12:, :10] = 3, 7
    nib.save(nib.Nifti1Image(labels, GRID.affine), tmp_path / "atlas.nii.gz")
    words = (files / "map.nii.gz", files / "labels.nii.gz", "--label", 1, "--metric", "auroc")
    rows = json.loads(call(*words, "--atlas", tmp_path / "atlas.nii.gz", "--json"))["structures"]
    assert [row["label"] for row in rows] == [0, 3, 7]
    for row in rows:
        inside = np.clip(values, 0, None)[labels == row["label"]].sum() / np.clip(values, 0, None).sum()
        assert row["share"] == pytest.approx(inside, rel=1e-5)
        assert row["per_size"] == pytest.approx(inside / ((labels == row["label"]).sum() * 12 / 1000), rel=1e-5)
    assert "by structure of the atlas" in call(*words, "--atlas", tmp_path / "atlas.nii.gz")
    wrong = CliRunner().invoke(app, ["evaluate", *map(str, words), "--atlas", str(files / "map.nii.gz")])
    assert isinstance(wrong.exception, MaskError)


def test_a_map_that_is_not_finite_is_refused_and_repaired_on_request(files, tmp_path):
    values = nib.load(files / "map.nii.gz").get_fdata()
    values[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(values.astype(np.float32), GRID.affine), tmp_path / "gap.nii.gz")
    words = (tmp_path / "gap.nii.gz", files / "labels.nii.gz", "--label", 1, "--metric", "auroc", "--json")
    refused = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    assert isinstance(refused.exception, InputError)
    assert "--nan 0" in str(refused.exception)
    assert json.loads(call(*words, "--nan", "0"))["scores"][0]["value"] > 0.5


def test_a_map_of_zeros_is_not_called_one_of_replaced_voxels(files, tmp_path):
    for value, said in ((0.0, ""), (np.nan, "no voxel but 0, in place of NaN")):
        nib.save(nib.Nifti1Image(np.full(GRID.shape, value, np.float32), GRID.affine), tmp_path / "same.nii.gz")
        assert medxai.load_overlay(tmp_path / "same.nii.gz", 0).status.reason == said


def test_half_a_network_cannot_be_asked(files):
    words = ["evaluate", str(files / "map.nii.gz"), str(files / "mask.nii.gz"), "--model", "tests.truth:looker"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UsageError)


def test_the_network_and_the_method_are_asked_too(tmp_path):
    """The map of a method that follows the weights changes as they are lost."""
    person = patient(3, size=24)
    image, plan = save(person, tmp_path), tmp_path / "recipe.yaml"
    plan.write_text(yaml.safe_dump({"name": "as is", "transforms": [{"Orientation": {"axcodes": "RAS"}}]}), "utf-8")
    nib.save(nib.Nifti1Image((person.voxels > 0.7).astype(np.uint8), person.grid.affine), tmp_path / "spots.nii.gz")
    explain = command(image, tmp_path, plan, 1, tmp_path / "out")
    assert CliRunner().invoke(app, explain).exit_code == 0
    network = explain[2:12]
    words = (tmp_path / "out" / "saliency.nii.gz", tmp_path / "spots.nii.gz", "--image", image, *network)
    words = (*words, "--target", 1, "--device", "cpu")
    found = json.loads(call(*words, "--preset", "arun", "--json"))
    assert [row["metric"] for row in found["scores"]] == ["average_precision"]
    assert [row["metric"] for row in found["asked"]] == ["cascading_ssim", "cascading_spearman"]
    assert all(row["value"] is not None or row["reason"] for row in found["asked"])
    names = ("--metric", "auroc", "--metric", "deletion", "--metric", "rfxg_pgs")
    both = json.loads(call(*words, *names, "--link", "softmax", "--json"))
    assert [row["metric"] for row in both["scores"]] == ["auroc"]
    assert {row["metric"]: row["value"] is not None for row in both["asked"]} == {"deletion": True, "rfxg_pgs": True}
    within = json.loads(call(*words, *names, "--link", "softmax", "--domain", tmp_path / "spots.nii.gz", "--json"))
    assert within["asked"][0]["value"] != both["asked"][0]["value"]
    curves = (*words, "--link", "softmax", "--json", "--metric", "deletion", "--metric", "insertion")
    own, coarse = (
        json.loads(call(*curves, *said)) for said in (("--baseline", f"image:{image}"), ("--units", "cubes:3v"))
    )
    deletion, insertion = (row["value"] for row in own["asked"])
    assert deletion == pytest.approx(insertion, abs=1e-6)
    assert own["removal"] == {"units": "default", "baseline": f"image:{image}"}
    default = both["asked"][0]["value"]
    assert abs(default - deletion) > 1e-3
    assert abs(default - coarse["asked"][0]["value"]) > 1e-4
    assert coarse["removal"] == {"units": "cubes:3v", "baseline": "default"}
    assert both["removal"] == {"units": "default", "baseline": "default"}
    assert "removal" not in found
    assert "asked_notices" not in both
    refused = CliRunner().invoke(app, ["evaluate", *map(str, words), "--metric", "deletion"])
    assert "how this output becomes a score" in str(refused.exception)


def test_what_is_asked_otherwise_than_it_was_explained_is_told(tmp_path):
    """Other weights, another image, other steps and another target each have their sentence."""
    person, plan = patient(3, size=24), tmp_path / "recipe.yaml"
    image = save(person, tmp_path)
    plan.write_text(yaml.safe_dump({"name": "as is", "transforms": [{"Orientation": {"axcodes": "RAS"}}]}), "utf-8")
    nib.save(nib.Nifti1Image((person.voxels > 0.7).astype(np.uint8), person.grid.affine), tmp_path / "spots.nii.gz")
    explain = command(image, tmp_path, plan, 1, tmp_path / "out")
    assert CliRunner().invoke(app, explain).exit_code == 0
    network = dict(zip(explain[2:12:2], explain[3:12:2], strict=True))
    other = {"image": tmp_path / "other.nii.gz", "weights": tmp_path / "other.pt", "recipe": tmp_path / "other.yaml"}
    nib.save(nib.Nifti1Image(person.voxels[::-1].copy(), person.grid.affine), other["image"])
    state = torch.load(network["--weights"], weights_only=True)
    torch.save({name: value * 2 for name, value in state.items()}, other["weights"])
    steps = [{"Orientation": {"axcodes": "RAS"}}, {"Flip": {"spatial_axis": 0}}]
    other["recipe"].write_text(yaml.safe_dump({"name": "mirrored", "transforms": steps}), "utf-8")
    network |= {"--weights": other["weights"], "--recipe": other["recipe"]}
    words = (tmp_path / "out" / "saliency.nii.gz", tmp_path / "spots.nii.gz", "--image", other["image"])
    asked = [word for pair in network.items() for word in pair]
    said = json.loads(call(*words, *asked, "--target", 0, "--link", "softmax", "--metric", "deletion", "--json"))
    told = said["asked_notices"]
    assert len(told) == 4
    for sentence, word in zip(told, ("weights", "image", "'mirrored'", "ClassScore(index=0)"), strict=True):
        assert word in sentence


def test_the_reading_is_that_of_the_library(case):
    found, mask = case
    assert medxai.evaluate(found, mask)["mass_in_mask"].value == mass_in_mask(Reading(found.data, mask.data, GRID))
