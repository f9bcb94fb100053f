"""Intervals, tests and agreement: against their definitions, against statsmodels, and by simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from medxai.errors import InputError
from medxai.statistics.interval import film_decrease, film_interval, interval
from medxai.statistics.paired import compare, holm
from medxai.statistics.relation import concordance, correlations, outcomes, relate, subgroups
from medxai.statistics.sample import sample, summary


def films(seed, patients=25, each=4, between=1.0, within=0.1):
    """Scores of several films of each patient, alike within a patient."""
    rng = np.random.default_rng(seed)
    own = np.repeat(rng.normal(0, between, patients), each)
    return sample(own + rng.normal(0, within, patients * each), np.repeat([f"p{n}" for n in range(patients)], each))


def test_a_summary_says_what_it_left_out():
    scores = sample([1.0, 0.0, np.nan, np.nan], ["a", "a", "b", "c"], ["", "", "empty mask", "no positive saliency"])
    found = summary(scores)
    assert (found.mean, found.defined, found.cases, found.patients) == (0.5, 2, 4, 1)
    assert found.undefined == {"empty mask": 1, "no positive saliency": 1}
    assert str(found) == (
        "0.500 (n = 2 of 4 cases, 1 patients; 1 undefined: empty mask; 1 undefined: no positive saliency)"
    )
    assert summary(scores, penalty=0.0).mean == 0.25
    assert np.isnan(summary(sample([np.nan], None, ["empty mask"])).mean)
    with pytest.raises(InputError):
        sample([1.0], ["a", "b"])


def test_whole_patients_are_drawn():
    """With one film each and with four equal films each the interval is the same; that over films is half as wide."""
    rng = np.random.default_rng(0)
    own = rng.random(40)
    one = interval(sample(own), seed=1)
    four = interval(sample(np.repeat(own, 4), np.repeat(np.arange(40).astype(str), 4)), seed=1)
    assert (one.low, one.high) == pytest.approx((four.low, four.high), abs=1e-12)
    assert (four.cases, four.patients) == (160, 40)
    naive = film_interval(sample(np.repeat(own, 4), np.repeat(np.arange(40).astype(str), 4)))
    assert (naive.high - naive.low) / (four.high - four.low) == pytest.approx(0.5, abs=0.08)


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(2).random(30)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20000, rng=np.random.default_rng(0)).confidence_interval
    ours = interval(sample(values), resamples=20000)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert ours.mean == pytest.approx(values.mean())


@pytest.mark.parametrize(("function", "low", "high"), [(interval, 0.88, 0.99), (film_interval, 0.3, 0.85)])
def test_coverage(function, low, high):
    """The true mean 0 lies in 95 % of the intervals over patients, and in far fewer of those over films."""
    held = [(found := function(films(seed), resamples=300)).low <= 0 <= found.high for seed in range(150)]
    assert low < np.mean(held) < high


def test_few_patients_have_no_interval():
    found = interval(films(0, patients=9))
    assert np.isnan(found.low)
    assert "fewer than 10 patients" in str(found)
    assert found.mean == pytest.approx(films(0, patients=9).values.mean())
    assert interval(sample([np.nan])).reason == "no case has a score"
    flat = interval(sample(np.ones(12)))
    assert (flat.low, flat.high) == (1.0, 1.0)


def test_the_published_interval_takes_the_25th_and_the_975th():
    scores = films(3)
    draw = np.random.default_rng(0).integers(0, 100, (1000, 100))
    means = np.sort(scores.values[draw].mean(1))
    found = film_interval(scores)
    assert (found.low, found.high) == pytest.approx((means[24], means[974]), abs=1e-12)


def test_the_decrease_is_of_the_same_draws():
    """A method that scores three quarters of the reader on every film is a quarter behind in every draw."""
    reader = sample([*np.random.default_rng(4).random(50), np.nan])
    found = film_decrease(reader, sample(0.75 * reader.values))
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.cases == 50
    assert film_decrease(sample(np.zeros(5)), sample(np.ones(5))).reason == "the reader never scores"
    with pytest.raises(InputError):
        film_decrease(reader, sample([1.0]))


def test_paired_tests_are_over_patients():
    rng = np.random.default_rng(5)
    patients = np.repeat([f"p{n}" for n in range(20)], 3)
    second = rng.normal(0, 1, 60)
    first = second + np.repeat(rng.normal(0.8, 0.5, 20), 3)
    found = compare(sample(first, patients), sample(second, patients))
    gaps = (first - second).reshape(20, 3).mean(1)
    assert found.difference == pytest.approx(gaps.mean())
    assert found.patients == 20
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(gaps).pvalue)
    assert found.d_z == pytest.approx(gaps.mean() / gaps.std(ddof=1))
    assert found.permutation < 0.01
    order = stats.rankdata(np.abs(gaps))
    assert found.rank_biserial == pytest.approx((order[gaps > 0].sum() - order[gaps < 0].sum()) / order.sum())
    with pytest.raises(InputError):
        compare(sample(first), sample(second, patients))


def test_paired_tests_keep_their_level():
    """Under no difference a twentieth of the p-values is below 0.05, four films a patient or not."""
    low = 0
    for seed in range(200):
        one, two = films(seed), films(seed + 1000)
        low += compare(one, two, resamples=199).wilcoxon < 0.05
    assert 0.01 < low / 200 < 0.09


def test_comparisons_that_cannot_be_tested():
    few = compare(sample([1.0, 2.0]), sample([0.0, 1.5]))
    assert (few.difference, few.reason) == (0.75, "fewer than 10 patients")
    same = compare(sample(np.arange(12.0)), sample(np.arange(12.0)))
    assert same.reason == "no difference in any patient"
    assert compare(sample([np.nan]), sample([1.0])).patients == 0


def test_holm_agrees_with_statsmodels():
    rng = np.random.default_rng(6)
    p_values = {f"finding {n}": p for n, p in enumerate(rng.random(9) ** 3)}
    theirs = multipletests(list(p_values.values()), method="holm")[1]
    assert list(holm(p_values).values()) == pytest.approx(list(theirs), abs=1e-12)
    found = holm({"a": 0.01, "b": float("nan"), "c": 0.04})
    assert (found["a"], found["c"]) == (0.02, 0.04)
    assert np.isnan(found["b"])


def test_concordance_by_its_definition():
    """W = 12 S / (m^2 (n^3 - n)) without ties; all alike is 1, two opposed metrics are 0."""
    rng = np.random.default_rng(7)
    table = rng.random((5, 8))
    ranks = np.apply_along_axis(stats.rankdata, 1, table)
    spread = ((ranks.sum(0) - ranks.sum(0).mean()) ** 2).sum()
    assert concordance(table) == pytest.approx(12 * spread / (25 * (8**3 - 8)))
    assert concordance(np.tile(np.arange(6.0), (3, 1))) == pytest.approx(1)
    assert concordance(np.stack([np.arange(6.0), -np.arange(6.0)])) == pytest.approx(0, abs=1e-12)
    assert np.isnan(concordance(np.ones((3, 5))))
    assert np.isnan(concordance(np.ones((1, 5))))


def test_relations_with_covariates():
    rng = np.random.default_rng(8)
    size = rng.random(50)
    score = 2 * size + 1 + rng.normal(0, 0.3, 50)
    found = relate([*score, np.nan], [*size, 1.0])
    assert found.rho == pytest.approx(stats.spearmanr(score, size).statistic)
    assert np.arctanh(found.high) - np.arctanh(found.rho) == pytest.approx(1.96 / np.sqrt(47))
    assert found.slope == pytest.approx(np.polyfit(size, score, 1)[0])
    assert found.cases == 50
    assert relate(score[:5], size[:5]).reason == "fewer than 10 cases"
    assert relate(score, np.ones(50)).reason == "one of the two never varies"
    assert correlations({"a": size, "b": -size})["a", "b"] == pytest.approx(-1)


def test_groups_and_outcomes():
    scores = films(9)
    groups = ["old" if int(name[1:]) % 2 else "young" for name in scores.patients]
    found = subgroups(scores, groups)
    assert list(found) == ["old", "young"]
    assert found["old"].patients == 12
    assert found["old"].cases + found["young"].cases == 100
    assert outcomes([0.9, 0.9, 0.1, 0.1], [True, False, True, False]) == ("TP", "FP", "FN", "TN")
