"""Many cases: every metric by finding and group (a method, a checkpoint), intervals over patients and paired tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan
from typing import Any

from medxai.catalog import metrics
from medxai.errors import InputError
from medxai.evaluation.parts import Parts
from medxai.evaluation.score import Evaluation, Score, number
from medxai.statistics.interval import Interval, interval
from medxai.statistics.paired import Comparison, compare, holm
from medxai.statistics.sample import Sample, sample, summary


@dataclass(frozen=True)
class Scored:
    """One case of one patient as one group's map scores it; the same `case` and `finding` in two groups is a pair.

    `parts` are for what is asked of all cases together. Findings are never averaged with one another.
    """

    group: str
    case: str
    patient: str
    evaluation: Evaluation
    parts: Parts | None = None
    finding: str = ""


@dataclass(frozen=True)
class CohortRow:
    """One metric of one finding and group: the mean with its interval over patients, and chance.

    `undefined` counts the cases without a value, by reason; `charged` is the mean with the penalty of maps that point
    nowhere, NaN where the metric has none; `low_p` counts the `with_p` cases whose p-value over other places of the
    finding is at most 0.05, which of maps that know nothing one in twenty has.
    """

    metric: str
    unit: str
    finding: str
    group: str
    mean: Interval
    charged: float
    undefined: Mapping[str, int]
    chance: Mapping[str, float]
    with_p: int
    low_p: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "metric": self.metric,
            "unit": self.unit,
            "finding": self.finding,
            "group": self.group,
            **self.mean.as_dict(),
            "charged": number(self.charged),
            "undefined": dict(self.undefined),
            "chance": {name: number(value) for name, value in self.chance.items()},
            **({"cases_with_p": self.with_p, "p_at_most_0.05": self.low_p} if self.with_p else {}),
        }


@dataclass(frozen=True)
class Contrast:
    """One metric of one finding, the first group less the second over patients with both.

    `p_holm` is for all contrasts together; where there are several findings, for all those of the same metric.
    """

    metric: str
    finding: str
    first: str
    second: str
    found: Comparison
    p_holm: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("difference", "wilcoxon", "permutation", "d_z", "rank_biserial")
        facts = {name: number(getattr(self.found, name)) for name in names}
        pair = {"metric": self.metric, "finding": self.finding, "first": self.first, "second": self.second}
        return {
            **pair,
            "patients": self.found.patients,
            **facts,
            "p_holm": number(self.p_holm),
            "reason": self.found.reason,
        }


def by_group(cases: Sequence[Scored], seed: int = 0) -> tuple[CohortRow, ...]:
    """A row per metric, finding and group, metrics in the order of the first case. Raises what `pairs` raises."""
    rows = []
    for (metric, finding), groups in _scores(cases).items():
        for group, own in groups.items():
            scores = list(own.values())
            drawn = _sample(own, cases)
            p_values = [score.p for score in scores if score.p is not None]
            charged = [score.value if score.penalty is None else score.penalty for score in scores]
            rows.append(
                CohortRow(
                    metric,
                    scores[0].unit,
                    finding,
                    group,
                    interval(drawn, seed=seed),
                    summary(sample(charged)).mean if metrics()[metric].penalty is not None else nan,
                    summary(drawn).undefined,
                    _chance(scores),
                    len(p_values),
                    sum(p <= 0.05 for p in p_values),
                )
            )
    return tuple(rows)


def contrasts(cases: Sequence[Scored], seed: int = 0) -> tuple[Contrast, ...]:
    """Every metric of every finding for every two groups, over the cases that both scored.

    Holm's rule over all of them or, where there are several findings, over those of each metric. Raises InputError for
    a case twice in one group.
    """
    found = {
        (metric, finding, first, second): _compared(groups[first], groups[second], cases, seed)
        for (metric, finding), groups in _scores(cases).items()
        for first, second in combinations(groups, 2)
    }
    several = len({one.finding for one in cases}) > 1
    families: dict[str, dict[str, float]] = {}
    for key, comparison in found.items():
        families.setdefault(key[0] if several else "", {})["\0".join(key)] = comparison.wilcoxon
    adjusted = {key: p for family in families.values() for key, p in holm(family).items()}
    return tuple(Contrast(*key, comparison, adjusted["\0".join(key)]) for key, comparison in found.items())


def _compared(
    first: Mapping[str, Score], second: Mapping[str, Score], cases: Sequence[Scored], seed: int
) -> Comparison:
    both = [case for case in first if case in second]
    one, other = (_sample({case: group[case] for case in both}, cases) for group in (first, second))
    return compare(one, other, seed=seed)


def _scores(cases: Sequence[Scored]) -> Mapping[tuple[str, str], Mapping[str, Mapping[str, Score]]]:
    """The scores by metric and finding, group and case; the findings of a metric stand together."""
    table: dict[tuple[str, str], dict[str, dict[str, Score]]] = {}
    for one in cases:
        for score in one.evaluation.scores:
            own = table.setdefault((score.metric, one.finding), {}).setdefault(one.group, {})
            if one.case in own:
                raise InputError(f"Case {one.case!r} is in group {one.group!r} twice.")
            own[one.case] = score
    order = list(dict.fromkeys(metric for metric, _ in table))
    return dict(sorted(table.items(), key=lambda entry: order.index(entry[0][0])))


def _chance(scores: Sequence[Score]) -> Mapping[str, float]:
    """The mean of each chance row over the cases that have it: an image or another patient's map may be missing."""
    names = dict.fromkeys(name for score in scores for name in score.chance)
    return {name: summary(sample([score.chance.get(name, nan) for score in scores])).mean for name in names}


def _sample(scores: Mapping[str, Score], cases: Sequence[Scored]) -> Sample:
    patients = {one.case: one.patient for one in cases}
    values, reasons = [score.value for score in scores.values()], [score.reason for score in scores.values()]
    return sample(values, [patients[case] for case in scores], reasons)
