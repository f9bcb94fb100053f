"""The table of CheXlocalize from its door: as published, by patient, beside chance and a reader; what it refuses."""

import json
import shutil
from dataclasses import astuple

import numpy as np
import pytest
from typer.testing import CliRunner

from medxai.cli.app import app
from medxai.errors import GeometryError, InputError, UsageError
from medxai.evaluation.film_table import COLUMNS, film_table, mean_over_findings
from medxai.evaluation.films import Alignment, FilmScore, score_films, tune, tuned_cutoff
from medxai.io.chexlocalize import read_annotations
from medxai.metrics.chexlocalize import CANDIDATES
from medxai.metrics.spec import reason
from tests.end_to_end.test_evaluate import call


def test_a_folder_of_films(data_dir, tmp_path):
    folder = data_dir("cxr/chexlocalize")
    words = (folder / "gradcam_maps_npz", folder / "gt_segmentations_val.json", "--preset", "chexlocalize")
    found = json.loads(call(*words, "--json"))
    rows = {row["finding"]: row for row in found["findings"]}
    expected = json.loads((folder / "expected_results.json").read_text())["patient64541_study1_view1_frontal"]
    for finding, want in expected.items():
        for name, key in (("hit", "hit"), ("iou", "iou_otsu"), ("iou_tuned", "iou_tuned")):
            assert rows[finding][name]["mean"] == pytest.approx(want[key], abs=1e-9), finding
            assert rows[finding][name]["low"] is None
        assert rows[finding]["iou_all"]["mean"] == pytest.approx(want["iou_otsu"] or 0.0, abs=1e-9), finding
    assert found["mean_over_findings"] == {**dict.fromkeys(COLUMNS), "chance": {}, "left_out": sorted(expected)}
    assert "too few annotated films" in call(*words)
    truth = read_annotations(folder / "gt_segmentations_val.json")
    pickles = sorted((folder / "gradcam_maps_val").iterdir())
    gated = score_films(pickles, truth, cutoffs={"Cardiomegaly": 0.2}).scores
    assert [score.found.iou_all for score in gated] == [0.0, 0.0]
    tuned = tune(pickles, truth)
    assert tuned.films == {gated[0].film}
    assert set(tuned.thresholds) == set(tuned.cutoffs) == {score.finding for score in gated}
    by_hand = {t: score_films(pickles[1:], truth, {"Cardiomegaly": t}).scores[0].found.iou_tuned for t in CANDIDATES}
    assert by_hand[tuned.thresholds["Cardiomegaly"]] == max(by_hand.values())
    with pytest.raises(InputError, match="tuned on patients that are scored"):
        tuned.refuse(gated)
    with pytest.raises(InputError, match="two maps"):
        score_films([pickles[0], pickles[0]], truth)
    with pytest.raises(InputError, match="annotated film"):
        score_films([], truth)


def test_films_are_set_beside_a_reader_and_tuned_on_others(data_dir, tmp_path):
    """The map's own peak as the reader's point: no map can fall behind it. Tuned on the film of another patient."""
    folder = data_dir("cxr/chexlocalize")
    maps, truth = folder / "gradcam_maps_npz", folder / "gt_segmentations_val.json"
    name = "patient64541_study1_view1_frontal"
    drawn = json.loads((folder / "gt_annotations_val.json").read_text())[name]
    inside = {finding: [np.mean(drawn[finding][0], 0).tolist()] for finding in drawn if finding != "img_size"}
    (tmp_path / "points.json").write_text(json.dumps({name: inside}))
    other = tmp_path / "others" / "patient2_study1_view1_frontal"
    other.mkdir(parents=True)
    for path in (maps / name).glob("*_map.npz"):
        (other / path.name).write_bytes(path.read_bytes())
    renamed = {other.name: json.loads(truth.read_text())[name]}
    (tmp_path / "others.json").write_text(json.dumps(renamed))
    words = (maps, truth, "--preset", "chexlocalize", "--points", tmp_path / "points.json")
    tune_on = ("--tune-maps", tmp_path / "others", "--tune-truth", tmp_path / "others.json")
    found = json.loads(call(*words, *tune_on, "--json"))
    rows = {row["finding"]: row for row in found["findings"]}
    assert {finding for finding, row in rows.items() if "reader" in row} == set(inside)
    for finding in inside:
        assert rows[finding]["reader"]["mean"] in {0.0, 1.0}
        threshold = found["tuned"]["thresholds"][finding]
        overlaps = [score.found.iou_tuned for score in score_films(
            [maps / name / f"{finding.replace(' ', '_')}_map.npz"], read_annotations(truth), {finding: threshold}
        ).scores]  # fmt: skip
        shown = rows[finding]["iou_tuned"]["mean"]
        assert shown is None or shown == pytest.approx(overlaps[0])
    assert found["tuned"]["films"] == 1
    assert "reader's hit rate" in call(*words)
    half = CliRunner().invoke(app, ["evaluate", *map(str, words), "--tune-maps", str(tmp_path)])
    assert isinstance(half.exception, UsageError)


def test_films_without_an_annotation_are_counted_and_named(data_dir, tmp_path):
    """A map of a film that the annotation file does not hold is no miss and no hit, and is not passed over."""
    folder = data_dir("cxr/chexlocalize")
    (maps,) = (folder / "gradcam_maps_npz").iterdir()
    shutil.copytree(maps, tmp_path / maps.name)
    shutil.copytree(maps, tmp_path / "patient2_study1_view1_frontal")
    words = (tmp_path, folder / "gt_segmentations_val.json", "--preset", "chexlocalize")
    found = json.loads(call(*words, "--json"))
    assert found["films_without_annotation"] == 1
    named = score_films(tmp_path.rglob("*_map.npz"), read_annotations(words[1]))
    assert named.left_out == {"patient2_study1_view1_frontal"}
    assert {row["films"] for row in found["findings"]} == {1}
    assert "note: films with maps but no annotation, not scored: 1" in call(*words)
    shutil.rmtree(tmp_path / maps.name)
    with pytest.raises(InputError, match="films with a map: 1"):
        score_films(tmp_path.rglob("*_map.npz"), read_annotations(words[1]))


def film(patient, number, finding="Edema", hit=1.0, iou=0.5, probability=0.7):
    return FilmScore(f"{patient}_study1_view{number}", finding, probability, True, Alignment(hit, iou, iou, iou), hit)


def test_the_film_table_draws_patients():
    rng = np.random.default_rng(0)
    scores = [film(f"patient{n}", v, iou=i) for n, i in enumerate(rng.random(20)) for v in range(3)]
    scores += [film("patient1", 1, "Lung Lesion", hit=0.0)]
    edema, lesion = film_table(scores)
    overlap = edema.columns["iou"].mean
    assert (edema.films, overlap.patients, overlap.cases) == (60, 20, 60)
    assert overlap.high - overlap.low > 1.5 * (edema.iou_published.high - edema.iou_published.low)
    assert lesion.columns["hit"].mean.reason == "fewer than 10 patients"
    overall = mean_over_findings([edema, lesion])
    assert (overall.means["hit"], overall.left_out) == (1.0, ("Lung Lesion",))
    assert overall.means["iou"] == overlap.mean


def test_the_cutoff_has_the_largest_mean():
    """Below 0.3 are films without the finding, on which any region scores 0."""
    sick = [film(f"p{n}", 1, probability=0.55) for n in range(5)]
    beside = Alignment(np.nan, np.nan, np.nan, 0.0)
    well = [FilmScore(f"q{n}_study1_view1", "Edema", 0.25, False, beside, np.nan) for n in range(5)]
    assert tuned_cutoff([*sick, *well]) == 0.3


SIDE, CORNER = 64, 20
RAMP = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)[::-1, ::-1]
SHARE = (CORNER / SIDE) ** 2


@pytest.fixture
def written(tmp_path):
    """Write one map of a film of which the first 20 x 20 pixels are annotated, and answer its path and the truth."""

    def write(values, probability=0.7, size=(SIDE, SIDE), finding="Edema", film="patient1_study1_view1_frontal"):
        path = tmp_path / "maps" / film / f"{finding}_map.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, map=values, prob=probability, task=finding, cxr_dims_wh=size)
        outline = [[0, 0], [CORNER - 1, 0], [CORNER - 1, CORNER - 1], [0, CORNER - 1]]
        entries = {one.name: {"img_size": [SIDE, SIDE], finding: [outline]} for one in (tmp_path / "maps").iterdir()}
        (tmp_path / "truth.json").write_text(json.dumps(entries))
        return path, read_annotations(tmp_path / "truth.json")

    return write


def first(written, cutoffs=None):
    return score_films([written[0]], written[1], cutoffs=cutoffs).scores[0]


@pytest.mark.parametrize("value", [0.0, 0.3, -2.5])
def test_a_constant_map_is_no_hit_though_its_first_pixel_is(written, value):
    score = first(written(np.full((7, 7), value, np.float32)))
    assert reason(score.found.hit) == "constant map"
    assert (score.hit_published, score.found.iou_all) == (1.0, 0.0)
    assert reason(score.found.iou) == "no region in the map"
    (row,) = film_table([score])
    assert row.columns["hit"].undefined == {"constant map": 1}
    assert (row.columns["hit"].mean.cases, row.hit_published.mean) == (0, 1.0)


def test_what_is_left_out_is_printed(written, tmp_path):
    for n in range(10):
        written(RAMP, film=f"patient{n}_study1_view1_frontal")
    _, truth = written(np.zeros((8, 8)), film="patient10_study1_view1_frontal")
    words = (tmp_path / "maps", truth.path, "--preset", "chexlocalize")
    shown = call(*words)
    assert "constant map=1" in shown
    assert "no region in the map=1" in shown
    assert "chance: centre" in shown
    assert sum("mean over findings" in line for line in shown.splitlines()) == len(COLUMNS)
    found = json.loads(call(*words, "--json"))
    (row,), overall = found["findings"], found["mean_over_findings"]
    assert (row["hit"]["mean"], row["hit"]["cases"], row["hit"]["undefined"]) == (1.0, 10, {"constant map": 1})
    assert row["iou_all"]["mean"] == pytest.approx(row["iou"]["mean"] * 10 / 11)
    assert {name: overall[name] for name in COLUMNS} == {name: row[name]["mean"] for name in COLUMNS}
    assert overall["chance"]["hit"]["uniform"] == pytest.approx(SHARE)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"values": RAMP * np.nan}, "4096 of 4096 NaN or infinite"),
        ({"values": np.where(RAMP == 1, np.nan, RAMP)}, "1 of 4096 NaN or infinite"),
        ({"values": np.where(RAMP == 1, np.inf, RAMP)}, "1 of 4096 NaN or infinite"),
        ({"values": RAMP, "probability": np.nan}, "prob is no probability"),
        ({"values": RAMP, "probability": 3.0}, "prob is no probability"),
        ({"values": RAMP, "size": (np.inf, SIDE)}, "no map of CheXlocalize"),
        ({"values": RAMP[:0]}, "two axes"),
    ],
)
def test_a_map_that_is_no_map_is_refused_by_name(written, broken, told):
    with pytest.raises(InputError, match=rf"Edema_map\.npz.*{told}"):
        first(written(**broken))


def test_a_map_of_another_film_size_is_refused_by_name(written):
    with pytest.raises(GeometryError, match=r"Edema_map\.npz.*64 x 64 pixels, as truth.json says.*of 64 x 60"):
        first(written(RAMP, size=(60, SIDE)))


def test_a_damaged_file_is_refused_by_name(written, data_dir, tmp_path):
    path, truth = written(RAMP)
    for content in (path.read_bytes()[:-9], b"PK\x03\x04", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"Edema_map\.npz cannot be read"):
            score_films([path], truth)
    pickled = sorted((data_dir("cxr/chexlocalize") / "gradcam_maps_val").iterdir())[0].read_bytes()
    draw = np.random.default_rng(0)
    path = tmp_path / "patient1_Edema_map.pkl"
    for _ in range(60):
        content = bytearray(pickled)
        content[draw.integers(600)] ^= int(draw.integers(1, 256))
        path.write_bytes(content[: draw.integers(1, len(content))])
        with pytest.raises(InputError, match=r"Edema_map\.pkl is no"):
            score_films([path], truth)


def test_an_empty_entry_is_refused_by_name(written):
    path, truth = written(RAMP)
    truth.path.write_text(json.dumps({path.parent.name: {}}))
    with pytest.raises(InputError, match=r"truth\.json.*'Edema' on 'patient1_.*does not state the film's size"):
        score_films([path], read_annotations(truth.path))


def test_a_finding_without_a_threshold_says_so(written):
    found = first(written(RAMP, finding="Fracture")).found
    assert reason(found.iou_tuned) == "no threshold for this finding"
    assert found.iou > 0


def test_a_film_below_the_cutoff_counts_among_all_films(written):
    score = first(written(RAMP), {"Edema": 0.9})
    below = "probability at or below the cutoff"
    for aligned in (score.found, *score.chance.values()):
        assert reason(aligned.iou) == reason(aligned.iou_tuned) == below
        assert aligned.iou_all == 0
    (row,) = film_table([score])
    assert (row.columns["iou"].undefined, row.columns["iou_all"].mean.mean) == ({below: 1}, 0.0)


def test_chance_by_hand(written):
    """A point drawn at random and the whole film; and the first of the middle pixels, with the Gaussian above 0.4."""
    path, truth = written(RAMP)
    chance = first((path, truth)).chance
    assert astuple(chance["uniform"]) == pytest.approx([SHARE] * 4)
    across = (np.arange(SIDE) - (SIDE - 1) / 2) ** 2
    gaussian = np.exp(-6 * (across[:, None] + across) / (SIDE**2 - 1))
    region = (gaussian - gaussian.min()) / np.ptp(gaussian) > 0.4
    mask = truth.mask(path.parent.name, "Edema").data.numpy()
    assert mask.sum() == CORNER**2
    assert chance["centre"].iou_tuned == pytest.approx((region & mask).sum() / (region | mask).sum())
    assert chance["centre"].hit == 0
    assert 0 < chance["centre"].iou == chance["centre"].iou_all < SHARE


def test_chance_rests_on_the_films_that_are_scored(written):
    scores = [first(written(RAMP, film=f"patient{n}_study1_view1_frontal")) for n in range(12)]
    silent = first(written(np.zeros((8, 8)), film="patient12_study1_view1_frontal"))
    empty = Alignment(*[0.9] * 4)
    known = FilmScore("patient13_s", "Edema", 0.7, True, silent.found, 0.0, {"uniform": empty, "centre": empty})
    (row,) = film_table([*scores, silent, known])
    for name in ("hit", "iou", "iou_tuned"):
        assert row.columns[name].chance["uniform"] == pytest.approx(SHARE)
    assert row.columns["iou_all"].chance["uniform"] == pytest.approx((13 * SHARE + 0.9) / 14)
    overall = mean_over_findings([row])
    assert overall.chance == {name: row.columns[name].chance for name in COLUMNS}
    assert overall.means["iou_all"] < overall.means["iou"]
