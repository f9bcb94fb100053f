"""Intervals of a mean score by the bootstrap: whole patients are drawn, because films of one patient are alike."""

from dataclasses import dataclass
from math import isnan
from typing import Any, Literal

import numpy as np
from scipy import stats

from medxai.errors import InputError
from medxai.statistics.sample import FEWEST, Sample, Values

Method = Literal["BCa", "percentile"]


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean of the defined scores over cases with its interval, and how many cases and patients it rests on."""

    mean: float
    low: float
    high: float
    cases: int
    patients: int
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an undefined number is null and keeps its reason."""
        ends = {"mean": self.mean, "low": self.low, "high": self.high}
        known = {name: None if isnan(value) else value for name, value in ends.items()}
        return {**known, "cases": self.cases, "patients": self.patients, "reason": self.reason}

    def __str__(self) -> str:
        rests = f"n = {self.cases} cases of {self.patients} patients"
        if isnan(self.mean):
            return f"undefined ({self.reason})"
        if self.reason:
            return f"{self.mean:.3f} (no interval: {self.reason}; {rests})"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] ({rests})"


def interval(
    scores: Sample, level: float = 0.95, method: Method = "BCa", resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean over cases, and its interval over `resamples` draws of as many patients as there are.

    Where every patient scores the same the bias-corrected interval does not exist and the percentile interval, a
    point, is stated. Below 10 patients with a defined score none is stated. Efron 1987; computed by SciPy.
    """
    sums, counts = scores.by_patient()
    cases, patients = int(counts.sum()), len(counts)
    if not patients:
        return Interval(np.nan, np.nan, np.nan, 0, 0, "no case has a score")
    mean = float(sums.sum() / cases)
    if patients < FEWEST:
        return Interval(mean, np.nan, np.nan, cases, patients, f"fewer than {FEWEST} patients")
    constant = bool(np.ptp(sums / counts) == 0)
    found = stats.bootstrap(
        (sums, counts),
        _mean,
        n_resamples=resamples,
        vectorized=True,
        paired=True,
        confidence_level=level,
        method="percentile" if constant else method,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), cases, patients)


def film_interval(scores: Sample, resamples: int = 1000, seed: int = 0) -> Interval:
    """The 95 % interval as CheXlocalize states it: films are drawn, not patients, and the undefined drop out.

    The mean is that of the draws; the ends are the 25th and the 975th of 1000 ordered means. It is too narrow where a
    patient has several films: `interval` is not.
    """
    draw = np.random.default_rng(seed).integers(0, len(scores.values), (resamples, len(scores.values)))
    drawn = scores.values[draw]
    defined = ~np.isnan(drawn)
    some = defined.any(1)
    means = np.sort(np.nansum(drawn[some], 1) / defined[some].sum(1))
    cases = int(scores.defined.sum())
    if not len(means):
        return Interval(np.nan, np.nan, np.nan, 0, 0, "no case has a score")
    ends = [max(int(share * len(means)) - 1, 0) for share in (0.025, 0.975)]
    return Interval(
        float(means.mean()), float(means[ends[0]]), float(means[ends[1]]), cases, len(scores.by_patient()[0])
    )


def film_decrease(reader: Sample, method: Sample, resamples: int = 1000, seed: int = 0) -> Interval:
    """How far a method falls behind a reader, (reader - method) / reader, with the interval of CheXlocalize.

    Both means are of the same draw of films, in the same order. Raises InputError for other films.
    """
    if reader.patients != method.patients:
        raise InputError("Only scores of the same films in the same order can be paired.")
    draw = np.random.default_rng(seed).integers(0, len(reader.values), (resamples, len(reader.values)))
    first, second = reader.values[draw], method.values[draw]
    some = ~np.isnan(first).all(1) & ~np.isnan(second).all(1)
    read, found = np.nanmean(first[some], axis=1), np.nanmean(second[some], axis=1)
    falls = np.sort((read[read > 0] - found[read > 0]) / read[read > 0])
    both = int((reader.defined & method.defined).sum())
    if not len(falls):
        return Interval(np.nan, np.nan, np.nan, both, 0, "the reader never scores")
    low, high = (float(falls[max(int(share * len(falls)) - 1, 0)]) for share in (0.025, 0.975))
    return Interval(float(falls.mean()), low, high, both, len(reader.by_patient()[0]))


def _mean(sums: Values, counts: Values, axis: int = -1) -> Values:
    return np.asarray(sums.sum(axis) / counts.sum(axis))
