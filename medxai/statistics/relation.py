"""What a score goes with (probability, size, elongation), and whether metrics agree on which is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy import stats

from medxai.statistics.interval import Interval, interval
from medxai.statistics.sample import FEWEST, Numbers, Sample, Values


@dataclass(frozen=True, slots=True)
class Relation:
    """Spearman's correlation of a score with a covariate, its 95 % interval (Fisher's z), and the line through them."""

    cases: int
    reason: str = ""
    rho: float = nan
    low: float = nan
    high: float = nan
    p: float = nan
    slope: float = nan
    intercept: float = nan
    slope_p: float = nan


def relate(scores: Numbers, covariate: Numbers) -> Relation:
    """Over the cases where both are known; none is stated below 10 cases or where one of them never varies.

    The interval is tanh(atanh(rho) +- 1.96 / sqrt(n - 3)), as in CheXlocalize; the line is of least squares.
    """
    y, x = np.asarray(scores, np.float64), np.asarray(covariate, np.float64)
    known = ~np.isnan(y) & ~np.isnan(x)
    y, x, number = y[known], x[known], int(known.sum())
    if number < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        why = f"fewer than {FEWEST} cases" if number < FEWEST else "one of the two never varies"
        return Relation(number, why)
    rank, line = stats.spearmanr(x, y), stats.linregress(x, y)
    rho = float(rank.statistic)
    with np.errstate(divide="ignore"):
        low, high = np.tanh(np.arctanh(rho) + np.array([-1.96, 1.96]) / np.sqrt(number - 3))
    fitted = (float(part) for part in (line.slope, line.intercept, line.pvalue))
    return Relation(number, "", rho, float(low), float(high), float(rank.pvalue), *fitted)


def concordance(scores: Values) -> float:
    """Kendall's W of a table (metrics, things ranked): 1 where all metrics rank alike, 0 where they share nothing.

    Higher must be better in every row; columns with an undefined score are left out; ties are corrected for. NaN where
    fewer than two metrics or three things remain. W is Friedman's statistic over m (n - 1), by SciPy.
    """
    table = scores[:, ~np.isnan(scores).any(0)]
    metrics, things = table.shape
    if metrics < 2 or things < 3:
        return float("nan")
    if all(np.ptp(row) == 0 for row in table):
        return float("nan")
    return float(stats.friedmanchisquare(*table.T).statistic / (metrics * (things - 1)))


def correlations(scores: Mapping[str, Numbers]) -> Mapping[tuple[str, str], float]:
    """Spearman's correlation of each pair of metrics over the cases where both are defined; NaN below 10."""
    names = list(scores)
    return {(a, b): relate(scores[a], scores[b]).rho for place, a in enumerate(names) for b in names[place + 1 :]}


def subgroups(scores: Sample, groups: Sequence[str], seed: int = 0) -> Mapping[str, Interval]:
    """The mean and interval of each group of cases, in the order of their names; small groups keep no interval."""
    labels = np.array(groups, str)
    return {name: interval(scores.only(labels == name), seed=seed) for name in sorted(set(groups))}


def outcomes(probabilities: Numbers, positive: Sequence[bool], threshold: float = 0.5) -> tuple[str, ...]:
    """TP, FP, FN or TN of each case, to stratify by: a map of a missed finding is not a map of a found one."""
    names = {(True, True): "TP", (True, False): "FP", (False, True): "FN", (False, False): "TN"}
    return tuple(names[p >= threshold, bool(y)] for p, y in zip(probabilities, positive, strict=True))
