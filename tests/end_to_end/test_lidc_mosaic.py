"""Mosaics of nodules: four patients, one malignant tile anywhere, and a survey that scores and refuses openly."""

import json
from dataclasses import replace
from math import nan

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import medxai
from benchmarks.lidc.cohort import SHAPE, Nodule, split, tiles
from benchmarks.lidc.model import NoduleNet
from benchmarks.lidc.mosaic import mosaic_recipe, mosaics
from benchmarks.lidc.training import train_regressor
from benchmarks.lidc_mosaic import COLUMNS, auc, questions
from benchmarks.lidc_regression import answered, bottlenecks
from benchmarks.survey import NETWORK, Column, Row, markdown, named, survey, write
from medxai.attribution.bottleneck.regression import InverseRegressionIBA, RegressionIBA
from medxai.core.saliency import Provenance, Saliency
from medxai.core.target import RegressionScore
from medxai.metrics.curves import Perturbation
from medxai.metrics.imputation import Constant

SICK, WELL = 300.0, -700.0


@pytest.fixture
def nodules():
    def nodule(number):
        malignant = number % 3 == 0
        mask = torch.zeros(SHAPE, dtype=torch.bool)
        mask[12:20, 12:20] = True
        tile = torch.full((1, *SHAPE), WELL + number)
        tile[0][mask] = SICK if malignant else 0.0
        return Nodule(f"case{number}", f"patient{number // 2}", malignant, number % 5 + 1, 9.0, tile, mask)

    return [nodule(number) for number in range(40)]


def sides(nodules):
    return [n for n in nodules if n.malignant], [n for n in nodules if not n.malignant]


def test_no_patient_is_on_both_sides_of_the_split(nodules):
    learned, kept = split(nodules, seed=3)
    assert len(learned) + len(kept) == len(nodules)
    assert {n.patient for n in learned}.isdisjoint(n.patient for n in kept)
    assert 0.3 < len(kept) / len(nodules) < 0.5


def test_a_mosaic_holds_one_malignant_tile_among_three_of_other_patients_at_any_place(nodules):
    owner = {float(n.tile.min()): n for n in nodules}
    found = mosaics(*sides(nodules), 60, seed=0)
    places = set()
    for mosaic in found:
        image = mosaic.case.image.data[0]
        assert tuple(image.shape) == (64, 64, 4)
        quarters = {(x, y): image[32 * x : 32 * x + 32, 32 * y : 32 * y + 32] for x in (0, 1) for y in (0, 1)}
        members = {place: owner[float(quarter.min())] for place, quarter in quarters.items()}
        assert len({n.patient for n in members.values()}) == 4
        (place,) = [place for place, n in members.items() if n.malignant]
        places.add(place)
        x, y = 32 * place[0], 32 * place[1]
        assert bool(mosaic.tile.data[x : x + 32, y : y + 32].all())
        assert int(mosaic.tile.data.sum()) == 32 * 32 * 4
        assert torch.equal(mosaic.nodule.data, image == SICK)
    assert len(places) == 4


def test_a_map_of_the_malignant_tile_scores_one_and_maps_that_know_nothing_a_quarter(nodules):
    (mosaic,) = mosaics(*sides(nodules), 1)
    grid = mosaic.case.image.geometry
    provenance = Provenance("known", {}, "none", "none", (), "", "", 0, "cpu", 0.0, {})
    saliency = Saliency(mosaic.tile.data.float(), grid, grid, provenance)
    evaluation = medxai.evaluate(saliency, mosaic.tile, ["pointing_game", "mass_in_mask"])
    for name in ("pointing_game", "mass_in_mask"):
        assert evaluation[name].value == 1.0
        assert evaluation[name].chance["uniform"] == 0.25
    assert evaluation["mass_in_mask"].chance["centre"] == pytest.approx(0.25)


def test_a_survey_scores_methods_and_says_why_one_refuses(nodules, tmp_path):
    torch.manual_seed(0)
    network = NoduleNet().eval()
    recipe = mosaic_recipe()
    asked = questions(network, medxai.ClassScore(1), mosaics(*sides(nodules), 2))
    torch.testing.assert_close(
        recipe.apply(asked[0].case.image).images[..., :32, :32, :].min(),
        tiles([n for n in nodules if float(n.tile.min()) == float(asked[0].case.image.data[0, :32, :32].min())]).min(),
    )
    scored, refused = survey(asked, COLUMNS, named(["GradCAM", "NoSuchMethod"]))
    assert scored.maps == 2
    assert scored.chance["uniform"]["tile"]["mass_in_mask"] == 0.25
    assert 0 <= scored.value["tile"]["mass_in_mask"] <= 1 or sum(scored.degenerate.values()) == 2
    assert "NoSuchMethod" in refused.refused
    assert not refused.value
    table = markdown([scored, refused], COLUMNS)
    assert table.splitlines()[2].startswith("| GradCAM |")
    assert "NoSuchMethod refuses: There is no 'NoSuchMethod' in the catalogue." in table
    write(tmp_path / "a" / "b.json", [scored, refused], {"mosaics": 2})
    kept = json.loads((tmp_path / "a" / "b.json").read_text("utf-8"))
    assert kept["mosaics"] == 2
    assert [row["method"] for row in kept["methods"]] == ["GradCAM", "NoSuchMethod"]


def test_a_table_says_over_how_many_maps_a_mean_is_and_why_others_say_nothing():
    columns = [Column("hit", "", "pointing_game"), Column("deletion", NETWORK, "deletion")]

    def row(method, hit, deletion, scored, degenerate):
        chance = {"noise": {"": {"pointing_game": 0.1}, NETWORK: {"deletion": 0.5}}, "centre": {"": {}}}
        value, counts = {"": {"pointing_game": hit}}, {"": {"pointing_game": scored}}
        value[NETWORK], counts[NETWORK] = {"deletion": deletion}, {"deletion": scored}
        return Row(method, 4, degenerate, 1.0, value=value, scored=counts, chance=chance)

    rows = [row("Worse", 0.5, 0.4, 4, {}), row("Silent", nan, nan, 0, {"zero map": 4}), row("Better", 1, 0.2, 3, {})]
    assert markdown(rows, columns).splitlines()[2:] == [
        "| Better | 1.000 (3) | 0.200 (3) | 0/4 | 1.00 |",
        "| Worse | 0.500 | 0.400 | 0/4 | 1.00 |",
        "| Silent |  (0) |  (0) | 4/4 | 1.00 |",
        "| noise map | 0.100 | 0.500 | | |",
        "| centre map |  |  | | |",
        "",
        "Silent, 4 maps: zero map",
    ]


def test_a_survey_asks_the_network_again_beside_a_map_of_noise(nodules):
    torch.manual_seed(0)
    network = NoduleNet().eval()
    (posed,) = questions(network, medxai.ClassScore(1), mosaics(*sides(nodules), 1))
    removal = Perturbation(baseline=Constant(-1.0), levels=(0.0, 1.0))
    asking = medxai.Asking(network, medxai.ClassScore(1), posed.asking.recipe, link="softmax", perturbation=removal)
    (row,) = survey([replace(posed, asking=asking)], [Column("deletion", NETWORK, "deletion")], named(["CAM"]))
    image = posed.asking.recipe.apply(posed.case.image).images
    with torch.no_grad():
        ends = network(torch.cat([image, torch.full_like(image, -1.0)])).softmax(1)[:, 1]
    assert not row.degenerate
    assert row.value[NETWORK]["deletion"] == pytest.approx(float(ends.mean()))
    assert row.chance["noise"][NETWORK]["deletion"] == pytest.approx(float(ends.mean()))


@pytest.mark.slow
def test_a_regressor_learns_the_score_that_readers_gave(nodules):
    seen = [replace(n, tile=torch.full((1, *SHAPE), -900.0 + 200 * n.score)) for n in nodules]
    answers = answered(train_regressor(seen, steps=40), seen)
    assert spearmanr(answers, [n.score for n in seen]).statistic > 0.9


def test_bottlenecks_of_a_regressor_are_asked_with_every_aim(nodules):
    (posed,) = questions(NoduleNet(1), RegressionScore(), mosaics(*sides(nodules), 1))
    made = {name: maker(posed) for name, maker in bottlenecks().items()}
    assert len(made) == 6
    assert {method.layer for method in made.values()} == {posed.layer}
    assert made["InverseRegressionIBA, reach 5"] == InverseRegressionIBA(layer=posed.layer, aim="reach", value=5.0)
    assert made["RegressionIBA, raise"] == RegressionIBA(layer=posed.layer, aim="raise")


def test_auc_counts_pairs_and_ties_half():
    sick, well = np.array([1.0, 2.0], np.float32), np.array([0.0, 1.0], np.float32)
    assert auc(sick, well) == 3.5 / 4
