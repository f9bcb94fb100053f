"""Two methods on the same cases, compared patient by patient; several findings at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy import stats

from medxai.errors import InputError
from medxai.statistics.sample import FEWEST, Sample, Values


@dataclass(frozen=True, slots=True)
class Comparison:
    """Mean difference (first minus second) over patients with both scores, two tests of it and two sizes of effect.

    `wilcoxon` and `permutation` are two-sided p-values; `d_z` is the mean over the standard deviation of the
    differences, `rank_biserial` the share of the signed ranks that favours the first minus that which favours the
    second.
    """

    patients: int
    reason: str = ""
    difference: float = nan
    wilcoxon: float = nan
    permutation: float = nan
    d_z: float = nan
    rank_biserial: float = nan


def compare(first: Sample, second: Sample, resamples: int = 9999, seed: int = 0) -> Comparison:
    """The two samples, whose cases are the same in the same order, averaged over each patient's cases.

    A case counts where both are defined. Below 10 patients no p-value is stated. Raises InputError for other patients.
    Wilcoxon 1945 with Pratt's treatment of zeros; signs are permuted; both by SciPy.
    """
    if first.patients != second.patients:
        raise InputError("Only scores of the same cases in the same order can be paired.")
    gap = Sample(first.values - second.values, first.patients)
    sums, counts = gap.by_patient()
    differences = sums / counts
    if not len(differences):
        return Comparison(0, "no case has both scores")
    mean, spread = float(differences.mean()), float(differences.std(ddof=1)) if len(differences) > 1 else np.nan
    effect = mean / spread if spread else np.nan
    if len(differences) < FEWEST or not differences.any():
        why = "no difference in any patient" if not differences.any() else f"fewer than {FEWEST} patients"
        return Comparison(len(differences), why, mean, d_z=effect)
    test = stats.wilcoxon(differences, zero_method="pratt")
    signs = stats.permutation_test(
        (differences,),
        lambda x, axis: x.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    p_values = float(test.pvalue), float(signs.pvalue)
    return Comparison(len(differences), "", mean, *p_values, effect, _rank_biserial(differences))


def holm(p_values: Mapping[str, float]) -> Mapping[str, float]:
    """The p-values adjusted for their number by Holm's step-down rule; an undefined one stays so and does not count."""
    known = sorted((name for name, p in p_values.items() if not np.isnan(p)), key=lambda name: p_values[name])
    steps = [p_values[name] * (len(known) - place) for place, name in enumerate(known)]
    adjusted = dict(zip(known, np.minimum(np.maximum.accumulate(steps), 1).tolist(), strict=True)) if known else {}
    return {name: adjusted.get(name, float("nan")) for name in p_values}


def _rank_biserial(differences: Values) -> float:
    moved = differences[differences != 0]
    ranks = stats.rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum())
