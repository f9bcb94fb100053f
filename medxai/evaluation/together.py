"""One answer for all cases of a finding and group: voxels and peaks pooled, thresholds tuned on other patients."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isinf
from typing import Any

import numpy as np

from medxai.evaluation.cohort import Scored
from medxai.evaluation.parts import Parts
from medxai.evaluation.score import number
from medxai.metrics.boxes import BoxCurve, box_accuracy, box_accuracy_v2
from medxai.metrics.cohort import BestF1, pooled_average_precision, pooled_best_f1, tuned_fraction
from medxai.metrics.lesions import Stratum, by_size
from medxai.metrics.peaks import RATES, froc_score, sensitivities
from medxai.metrics.spec import Undefined
from medxai.metrics.thresholds import Sweep
from medxai.statistics.interval import Interval, interval
from medxai.statistics.sample import sample

_NO_SIZE = "the pixel size is unknown: not in froc and strata"


@dataclass(frozen=True)
class Together:
    """The `cases` with curves of one finding and group, and what is asked of them together.

    `undefined` counts what is not in all of it. `best_f1` and both box accuracies take the threshold that is best for
    these very cases: upper bounds. The threshold of `tuned_iou` and `tuned_dice` is for each patient the one with the
    largest mean overlap over the other patients. `froc`, the mean of the `sensitivities` by false peaks per case, and
    `strata` count every case whose pixel size is known: the lesions of a map that says nothing are missed.
    """

    finding: str
    group: str
    cases: int
    undefined: Mapping[str, int]
    best_f1: BestF1
    voxel_average_precision: float
    box_accuracy: float
    box_accuracy_v2: float
    tuned_iou: Interval
    tuned_dice: Interval
    froc: float
    sensitivities: Mapping[float, float]
    strata: tuple[Stratum, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the last stratum has no largest size."""
        return {
            "finding": self.finding,
            "group": self.group,
            "cases": self.cases,
            "undefined": dict(self.undefined),
            "best_f1": _plain(asdict(self.best_f1)),
            **_plain({name: getattr(self, name) for name in NUMBERS}),
            "sensitivities": _plain({f"{rate:g}": found for rate, found in self.sensitivities.items()}),
            "tuned_iou": self.tuned_iou.as_dict(),
            "tuned_dice": self.tuned_dice.as_dict(),
            "strata": [_plain(asdict(stratum)) for stratum in self.strata],
        }


NUMBERS = ("voxel_average_precision", "box_accuracy", "box_accuracy_v2", "froc")


def together(cases: Sequence[Scored], seed: int = 0) -> tuple[Together, ...]:
    """One row per finding and group of the cases that have parts, in the order of their first case."""
    groups: dict[tuple[str, str], list[tuple[str, Parts]]] = {}
    for one in cases:
        if one.parts is not None:
            groups.setdefault((one.finding, one.group), []).append((one.patient, one.parts))
    return tuple(_of(*of, own, seed) for of, own in groups.items())


def tuned_apart(sweeps: Sequence[Sweep], patients: Sequence[str]) -> list[int]:
    """For each case the place in its sweep of the fraction that is tuned on all other patients, -1 where none is."""
    places = {}
    for patient in dict.fromkeys(patients):
        others = [one for one, name in zip(sweeps, patients, strict=True) if name != patient]
        fraction = tuned_fraction(others)
        places[patient] = -1 if np.isnan(fraction) else int(np.abs(others[0].fractions - fraction).argmin())
    return [places[patient] for patient in patients]


def _of(finding: str, group: str, own: Sequence[tuple[str, Parts]], seed: int) -> Together:
    patients, curves = [name for name, one in own if one.curves], [one.curves for _, one in own if one.curves]
    sweeps = [one.sweep for one in curves]
    places = tuned_apart(sweeps, patients)
    none = Undefined("no other patient to tune on")
    ious, dices = (
        sample([none if k < 0 else column[k] for column, k in zip(columns, places, strict=True)], patients)
        for columns in ([one.iou for one in sweeps], [one.dice for one in sweeps])
    )
    peaks = [one.peaks for _, one in own if one.peaks is not None]
    undefined = Counter(one.reason for _, one in own if one.reason)
    undefined.update([_NO_SIZE] * (len(own) - len(peaks)))
    boxes = [one.boxes for one in curves if isinstance(one.boxes, BoxCurve)]
    undefined.update(f"{one.boxes.reason}: not in box accuracy" for one in curves if isinstance(one.boxes, Undefined))
    lesions = [lesion for _, one in own for lesion in one.lesions or ()]
    return Together(
        finding,
        group,
        len(curves),
        undefined,
        pooled_best_f1(sweeps),
        pooled_average_precision([one.histogram for one in curves]),
        box_accuracy(boxes),
        box_accuracy_v2(boxes),
        interval(ious, seed=seed),
        interval(dices, seed=seed),
        froc_score(peaks) if peaks else Undefined(_NO_SIZE),
        dict(zip(RATES, sensitivities(peaks).tolist(), strict=True)),
        by_size(lesions) if peaks else (),
    )


def _plain(row: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if isinf(value) else number(value) for name, value in row.items()}
