"""A table of cases: means over patients, paired tests between groups, and what is refused."""

import csv
import json
from itertools import product

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import stats
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from medxai.cli.app import app
from medxai.cli.names import withheld
from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency, Status
from medxai.errors import InputError, MedxaiError, UsageError
from medxai.evaluation.prior import prior
from medxai.evaluation.together import tuned_apart
from medxai.metrics.thresholds import Sweep
from tests.networks import Planted, planted_case

SHAPE, PATIENTS = (12, 10, 8), 12


def write(folder, name, values):
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0])), folder / f"{name}.nii.gz")
    return f"{name}.nii.gz"


@pytest.fixture
def table(tmp_path):
    """Two findings of each of 12 patients; the second of two methods sees half as much, and of one nothing."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(2 * PATIENTS):
        mask = np.zeros(SHAPE)
        mask[3:7, 2:6, 2:5] = 1
        mask_name = write(tmp_path, f"mask{number}", mask)
        for method, strength in (("good", 1.0), ("poor", 0.5)):
            values = rng.random(SHAPE) + strength * (1 + rng.random()) * mask
            values = values * (number != 5 or method == "good")
            saliency = write(tmp_path, f"{method}{number}", values)
            rows.append([saliency, mask_name, f"patient{number // 2}", method])
    return save(tmp_path / "cohort.csv", ["saliency", "mask", "patient", "group"], rows)


def save(path, head, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def call(*words):
    done = CliRunner().invoke(app, ["evaluate", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_cohort_is_summed_up_by_patient_and_its_groups_are_paired(table):
    names = ("--metric", "mass_in_mask", "--metric", "peak_distance")
    found = json.loads(call(table, *names, "--json"))
    rows = {(row["metric"], row["group"]): row for row in found["metrics"]}
    values = {(one["group"], one["case"]): one["scores"] for one in found["cases"]}
    good = [scores[0]["value"] for (group, _), scores in values.items() if group == "good"]
    assert rows["mass_in_mask", "good"]["mean"] == pytest.approx(np.mean(good))
    assert rows["mass_in_mask", "good"]["patients"] == PATIENTS
    assert rows["mass_in_mask", "good"]["low"] < np.mean(good) < rows["mass_in_mask", "good"]["high"]
    assert rows["mass_in_mask", "good"]["chance"]["uniform"] == pytest.approx(48 / np.prod(SHAPE))
    assert list(rows["mass_in_mask", "good"]["chance"]) == ["uniform", "centre", "others", "noise"]
    assert rows["mass_in_mask", "poor"]["undefined"] == {"no positive saliency": 1}
    assert rows["mass_in_mask", "poor"]["charged"] is None
    distance = rows["peak_distance", "poor"]
    edge = np.linalg.norm([22, 18, 21])
    assert distance["charged"] == pytest.approx((distance["mean"] * distance["cases"] + edge) / (2 * PATIENTS))
    contrast = {pair["metric"]: pair for pair in found["contrasts"]}["mass_in_mask"]
    gaps = {}
    for (group, case), scores in values.items():
        if group == "good" and (other := values["poor", case][0]["value"]) is not None:
            gaps.setdefault((int(case.removeprefix("case ")) - 1) // 2, []).append(scores[0]["value"] - other)
    means = [np.mean(gap) for gap in gaps.values()]
    assert contrast["difference"] == pytest.approx(np.mean(means))
    assert contrast["wilcoxon"] == pytest.approx(stats.wilcoxon(means, zero_method="pratt").pvalue)
    assert contrast["p_holm"] >= contrast["wilcoxon"]
    text = call(table, *names)
    assert "paired by case" in text
    assert "1 no positive saliency" in text


def test_all_cases_of_a_group_are_asked_together(table):
    """Pooled overlap, boxes and peaks; a map of zeros is counted where it has no curve, and finds no lesion."""
    found = json.loads(call(table, "--preset", "full", "--no-noise", "--json"))
    good, poor = found["together"]
    assert (good["cases"], good["undefined"]) == (2 * PATIENTS, {})
    assert (poor["cases"], poor["undefined"]) == (2 * PATIENTS - 1, {"no positive saliency": 1})
    means = {(row["metric"], row["group"]): row["mean"] for row in found["metrics"]}
    for row in (good, poor):
        assert row["tuned_iou"]["mean"] <= means["best_iou", row["group"]] + 1e-9
        assert row["best_f1"]["f1"] >= row["tuned_dice"]["mean"] - 0.05
        assert row["tuned_iou"]["patients"] == PATIENTS
    for name in ("voxel_average_precision", "box_accuracy", "box_accuracy_v2", "froc"):
        assert 1 >= good[name] >= poor[name] >= 0
    sizes = {stratum["smallest"]: stratum["lesions"] for stratum in poor["strata"]}
    assert sizes == {0.0: 0, 0.1: 2 * PATIENTS, 1.0: 0, 10.0: 0}
    assert poor["strata"][1]["found"] <= 2 * PATIENTS - 1
    assert "together" not in json.loads(call(table, "--json"))


@pytest.fixture
def findings(tmp_path):
    """Of 12 patients label 1, which two methods find, and label 2, which both find less well."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(PATIENTS):
        labels = np.zeros(SHAPE)
        labels[1:4, 2:6, 2:5], labels[8:11, 2:6, 2:5] = 1, 2
        mask_name = write(tmp_path, f"labels{number}", labels)
        for label, (method, strength) in product((1, 2), (("good", 1.0), ("poor", 0.5))):
            values = rng.random(SHAPE) + strength / label * (labels == label)
            saliency = write(tmp_path, f"{method}{number}{label}", values)
            rows.append([saliency, mask_name, f"patient{number}", method, label])
    return tmp_path / "findings.csv", ["saliency", "mask", "patient", "group", "label"], rows


def test_each_finding_is_summed_up_as_if_it_were_alone(findings):
    path, head, rows = findings[0], findings[1], findings[2][:12]
    words = ["--preset", "full", "--no-noise", "--json"]
    both = json.loads(call(save(path, head, rows), *words))
    assert {(one["case"], one["finding"]) for one in both["cases"]} >= {("case 1", "label 1"), ("case 2", "label 2")}
    for label in (1, 2):
        alone = json.loads(call(save(path, head, [row for row in rows if row[-1] == label]), *words))
        for part in ("metrics", "together", "contrasts"):
            own = [row for row in both[part] if row["finding"] == f"label {label}"]
            assert len(own) == len(both[part]) / 2
            assert [row | {"p_holm": None} for row in own] == [row | {"p_holm": None} for row in alone[part]]


def test_the_findings_of_a_metric_are_what_holm_adjusts_for(findings):
    path, head, rows = findings
    words = ["--metric", "auroc", "--metric", "mass_in_mask"]
    found = json.loads(call(save(path, head, rows), *words, "--json"))["contrasts"]
    assert [row["metric"] for row in found] == ["auroc", "auroc", "mass_in_mask", "mass_in_mask"]
    for pair in (found[:2], found[2:]):
        p_values = [row["wilcoxon"] for row in pair]
        assert [row["p_holm"] for row in pair] == multipletests(p_values, method="holm")[1].tolist()
    assert "Holm over the findings of each metric" in (text := call(path, *words))
    assert "finding " in text
    text = call(save(path, head, [row for row in rows if row[-1] == 1]), *words)
    assert "Holm over all of these" in text
    assert "finding" not in text


def test_a_finding_goes_by_its_name_where_it_has_one(findings):
    """Two files that number the same finding otherwise hold one finding; a case with two is no case named twice."""
    path, head, rows = findings
    good = [[*row, row[2]] for row in rows if row[3] == "good"]
    one, two = ([[*row, name] for row, name in zip(good[:6], names * 3, strict=True)] for names in ("aa", "ab"))
    head += ["case", "finding"]
    (row,) = json.loads(call(save(path, head, [one[0], one[3]]), "--metric", "auroc", "--json"))["metrics"]
    assert (row["finding"], row["cases"]) == ("a", 2)
    assert "others" in row["chance"]
    found = json.loads(call(save(path, head, two), "--metric", "auroc", "--json"))
    assert [(row["finding"], row["cases"]) for row in found["metrics"]] == [("a", 3), ("b", 3)]


def test_a_threshold_is_never_tuned_on_the_patient_that_it_scores():
    """Two patients whose best thresholds lie apart each get the other's."""
    low, high = (Sweep(np.arange(1, 101) / 100, np.full(100, 10.0), np.zeros(100), 10.0) for _ in range(2))
    low.caught[19], high.caught[79] = 10, 10
    assert tuned_apart([low, high, high], ["a", "b", "b"]) == [79, 19, 19]
    assert tuned_apart([low], ["a"]) == [-1]


def test_the_prior_of_a_patient_is_of_all_others():
    """Two maps of one patient and one of another, of any strength and grid; a map that says nothing adds nothing."""
    left, right = torch.zeros(64, 64), torch.zeros(32, 32)
    left[:, :32], right[:, 16:] = 5, 0.1
    known = prior([("a", saliency(left)), ("a", saliency(3 * left)), ("b", saliency(right)), ("c", saliency(-left))])
    film, slice_, volume = (Geometry(np.eye(4), shape) for shape in ((64, 64), (64, 64, 1), (64, 64, 2)))
    torch.testing.assert_close(known.without("a", film), (right > 0) / 512)
    torch.testing.assert_close(known.without("b", film), 2 * (right == 0) / 512)
    torch.testing.assert_close(known.without("c", film), known.without("a", film) + known.without("b", film))
    torch.testing.assert_close(known.without("a", slice_), known.without("a", film)[:, :, None])
    assert known.without("a", volume) is None
    assert prior([("a", saliency(left))]).without("a", film) is None


def test_a_chance_row_that_some_cases_lack_is_the_mean_of_the_others(tmp_path):
    """Of two patients one has a map of zeros: only that one has another's map, and only it has an image."""
    mask = write(tmp_path, "mask", np.arange(960).reshape(SHAPE) < 90)
    second = write(tmp_path, "second", np.arange(960).reshape(SHAPE) < 90)
    empty, full = (
        write(tmp_path, "zeros", np.zeros(SHAPE)),
        write(tmp_path, "map", np.random.default_rng(0).random(SHAPE)),
    )
    rows = [[empty, mask, full, "a"], [full, second, "", "b"]]
    path = save(tmp_path / "gaps.csv", ["saliency", "mask", "image", "patient"], rows)
    (row,) = json.loads(call(path, "--metric", "auroc", "--json"))["metrics"]
    assert set(row["chance"]) == {"uniform", "centre", "edges", "body", "others", "noise"}
    assert row["chance"]["others"] == pytest.approx(row["mean"], abs=0.1)


def saliency(values):
    grid = Geometry(np.eye(4), tuple(values.shape))
    return Saliency(values, grid, grid, Provenance("test", {}, "", "", (), "", "", 0, "", 0.0, {}), Status())


def test_a_table_says_how_many_cases_no_other_place_scores_as_well(tmp_path):
    """Maps that know the finding and maps of noise, at 19 places each; without places there is no such column."""
    rows = []
    for number in range(12):
        mask = np.zeros(SHAPE)
        mask[3:7, 2:6, 2:5] = 1
        mask_name, noise = write(tmp_path, f"m{number}", mask), np.random.default_rng(number).random(SHAPE)
        for group, known in (("good", 1), ("noise", 0)):
            rows.append([write(tmp_path, f"{group}{number}", noise + known * mask), mask_name, group])
    path = save(tmp_path / "places.csv", ["saliency", "mask", "group"], rows)
    words = ["--metric", "auroc", "--metric", "peak_distance"]
    found = json.loads(call(path, *words, "--places", 19, "--json"))
    good, noise, *distances = found["metrics"]
    for row in (good, noise):
        own = [case["scores"][0]["p"] for case in found["cases"] if case["group"] == row["group"]]
        assert (row["cases_with_p"], row["p_at_most_0.05"]) == (12, sum(p <= 0.05 for p in own))
    assert good["p_at_most_0.05"] == 12
    assert noise["p_at_most_0.05"] < 6
    assert all("cases_with_p" not in row for row in distances)
    assert "12 of 12 cases" in call(path, *words, "--places", 19)
    assert "p <= 0.05" not in call(path, *words)
    draws = {case["case"]: case["scores"][0]["chance"]["noise"] for case in found["cases"]}
    assert len(set(draws.values())) == 12


def test_one_group_is_not_compared(tmp_path):
    maps = [write(tmp_path, f"map{n}", np.random.default_rng(n).random(SHAPE)) for n in range(3)]
    masks = [write(tmp_path, f"mask{n}", np.arange(960).reshape(SHAPE) < 90) for n in range(3)]
    path = save(tmp_path / "few.csv", ["saliency", "mask"], zip(maps, masks, strict=True))
    found = json.loads(call(path, "--json"))
    assert "contrasts" not in found
    assert {row["reason"] for row in found["metrics"]} == {"fewer than 10 patients"}
    assert "paired" not in call(path)


@pytest.mark.parametrize(
    ("head", "rows", "said"),
    [
        (["saliency"], [["a.nii.gz"]], "other columns"),
        (["saliency", "mask", "colour"], [["a", "b", "red"]], "other columns"),
        (["saliency", "mask", "mask"], [["a", "b", "c"]], "other columns"),
        (["saliency", "mask"], [], "no row"),
        (["saliency", "mask"], [["a.nii.gz", ""]], "Row 2"),
        (["saliency", "mask"], [["a.nii.gz", "b.nii.gz", "c"]], "Row 2"),
        (["saliency", "mask", "label"], [["a.nii.gz", "b.nii.gz", "one"]], "Row 2, column label"),
        (["saliency", "mask", "label"], [["a.nii.gz", "b.nii.gz", "one"]], "Found 'one'"),
        (["saliency", "mask"], [["bad.csv", "bad.csv"], ["bad.csv", "b.nii.gz"]], "Row 3, column mask"),
        (["saliency", "mask", "patient"], [["a", "m", "p"], ["b", "m", "q"]], "one patient"),
        (["saliency", "mask", "patient"], [["a", "m", "p"], ["b", "m", "q"]], "Name the cases"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, head, rows, said):
    done = CliRunner().invoke(app, ["evaluate", str(save(tmp_path / "bad.csv", head, rows))])
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)


def test_what_is_no_table_is_refused_and_its_files_stay_unnamed(tmp_path):
    for content in (b"\xff\xfe\x00", b'saliency,mask\n"a"b,c\n'):
        (tmp_path / "bad.csv").write_bytes(content)
        done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "bad.csv")])
        assert isinstance(done.exception, InputError)
    assert isinstance(CliRunner().invoke(app, ["evaluate", str(tmp_path / "none.csv")]).exception, InputError)
    path = save(tmp_path / "cases.csv", ["saliency", "mask"], [["Miller.nii.gz", "/data/Smith/mask.nii.gz"]])
    said = withheld(f"{tmp_path / 'Miller.nii.gz'} and /data/Smith/mask.nii.gz are missing", ["evaluate", str(path)])
    assert "Miller" not in said
    assert "Smith" not in said


def test_a_case_twice_in_one_group_and_a_second_annotation_are_refused(tmp_path):
    name = write(tmp_path, "map", np.random.default_rng(0).random(SHAPE))
    mask = write(tmp_path, "mask", np.eye(12, 10)[..., None] * np.ones(8))
    path = save(tmp_path / "twice.csv", ["saliency", "mask"], [[name, mask], [name, mask]])
    done = CliRunner().invoke(app, ["evaluate", str(path)])
    assert isinstance(done.exception, InputError)
    assert "twice" in str(done.exception)
    done = CliRunner().invoke(app, ["evaluate", str(path), str(tmp_path / mask)])
    assert isinstance(done.exception, UsageError)
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / name)])
    assert isinstance(done.exception, UsageError)


def planted():
    return Planted(3)


def test_the_criteria_of_arun_are_judged_over_a_table(tmp_path):
    """The same weights repeat every map; another network, whose weights were drawn, does not."""
    rows = []
    for seed in range(3):
        image, mask = planted_case(3, seed)
        names = {f"image{seed}": image[0, 0].numpy(), f"mask{seed}": mask.numpy()}
        rows.append([write(tmp_path, name, values) for name, values in names.items()])
    table = save(tmp_path / "cases.csv", ["image", "mask"], rows)
    model = planted()
    torch.save(model.state_dict(), tmp_path / "first.pt")
    torch.manual_seed(0)
    torch.nn.init.normal_(model.features.weight)
    torch.save(model.state_dict(), tmp_path / "other.pt")
    (tmp_path / "recipe.yaml").write_text("name: as is\ntransforms: [{Orientation: {axcodes: RAS}}]\n")
    factory = "tests.end_to_end.test_evaluate_cohort:planted"
    words = [
        table, "--preset", "arun", "--model", factory, "--weights", tmp_path / "first.pt", "--device", "cpu",
        "--recipe", tmp_path / "recipe.yaml", "--target", 1, "--method", "GradCAM", "--layer", "act",
    ]  # fmt: skip
    others = ["--retrained", tmp_path / "first.pt", "--other-model", factory, "--other-weights", tmp_path / "other.pt"]
    found = {row["name"]: row for row in json.loads(call(*words, *others, "--json"))["criteria"]}
    assert found["utility"]["met"] is True
    assert found["utility"]["baseline"] == pytest.approx(64 / (16 * 18 * 20))
    assert found["utility"]["value"] > 0.5
    assert found["repeatability"]["value"] == pytest.approx(1)
    assert found["reproducibility"]["value"] < 0.9
    assert [row["n"] for row in found.values()] == [3, 3, 3, 3]
    said = call(*words)
    assert said.count("not judged") == 2
    save(table, ["image", "mask", "finding"], [[*row, name] for row, name in zip(rows, "aab", strict=True)])
    for left in (["--other-model", factory], ["--method", ""], []):
        done = CliRunner().invoke(app, ["evaluate", *map(str, words), *left])
        assert isinstance(done.exception, MedxaiError)
