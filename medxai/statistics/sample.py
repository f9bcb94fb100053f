"""Scores of cases with their patients: the undefined are left out, counted and named."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medxai.errors import InputError

Values = NDArray[np.float64]
Numbers = Sequence[float] | NDArray[Any]

FEWEST = 10
"""Patients below which no interval and no test is stated."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One score per case and the patient of each; a case without a patient of its own is a patient of its own."""

    values: Values
    patients: tuple[str, ...]
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.values) != len(self.patients) or (self.reasons and len(self.reasons) != len(self.values)):
            raise InputError(
                "Scores, patients and reasons are one per case.",
                found=f"{len(self.values)}, {len(self.patients)} and {len(self.reasons)}",
            )

    @property
    def defined(self) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(self.values))

    def by_patient(self) -> tuple[Values, Values]:
        """Sum and number of the defined scores of each patient that has one."""
        kept = self.defined
        names, place = np.unique(np.array(self.patients)[kept], return_inverse=True)
        sums = np.bincount(place, self.values[kept], len(names)).astype(np.float64)
        return sums, np.bincount(place, minlength=len(names)).astype(np.float64)

    def only(self, chosen: NDArray[np.bool_]) -> "Sample":
        """The chosen cases."""
        places = np.flatnonzero(chosen)
        reasons = tuple(self.reasons[n] for n in places) if self.reasons else ()
        return Sample(self.values[places], tuple(self.patients[n] for n in places), reasons)


def sample(values: Numbers, patients: Iterable[str] | None = None, reasons: Sequence[str] = ()) -> Sample:
    """The scores, NaN where undefined; without `patients` every case is its own."""
    names = tuple(map(str, range(len(values)) if patients is None else patients))
    return Sample(np.asarray(values, np.float64), names, tuple(reasons))


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean, median and spread of the defined scores beside their denominators, and why the others are undefined."""

    mean: float
    median: float
    spread: float
    defined: int
    cases: int
    patients: int
    undefined: Mapping[str, int]

    def __str__(self) -> str:
        left = "; ".join(f"{number} undefined: {reason}" for reason, number in self.undefined.items())
        said = f"{self.mean:.3f} (n = {self.defined} of {self.cases} cases, {self.patients} patients"
        return f"{said}; {left})" if left else f"{said})"


def summary(scores: Sample, penalty: float | None = None) -> Summary:
    """The summary of a sample; with a `penalty` the undefined take that value instead of being left out."""
    kept = scores.defined
    why = Counter(reason or "no reason given" for reason, ok in zip(_reasons(scores), kept, strict=True) if not ok)
    values = scores.values[kept] if penalty is None else np.where(kept, scores.values, penalty)
    patients = len({name for name, ok in zip(scores.patients, kept, strict=True) if ok or penalty is not None})
    if not len(values):
        return Summary(np.nan, np.nan, np.nan, 0, len(kept), 0, dict(why))
    spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    return Summary(float(values.mean()), float(np.median(values)), spread, len(values), len(kept), patients, dict(why))


def _reasons(scores: Sample) -> tuple[str, ...]:
    return scores.reasons or ("",) * len(scores.values)
