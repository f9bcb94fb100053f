"""What questions about all cases together need of one case: curves and counts, small enough to keep of every case."""

from dataclasses import dataclass

import torch

from medxai.metrics.boxes import BoxCurve, box_curve
from medxai.metrics.cohort import Histogram, histogram
from medxai.metrics.lesions import Lesion, by_lesion
from medxai.metrics.peaks import Peaks, peaks
from medxai.metrics.reading import Reading
from medxai.metrics.spec import Undefined
from medxai.metrics.thresholds import Sweep, sweep


@dataclass(frozen=True, eq=False)
class Curves:
    """The case at every threshold: overlap, levels, and boxes, or why it has none."""

    sweep: Sweep
    histogram: Histogram
    boxes: BoxCurve | Undefined


@dataclass(frozen=True, eq=False)
class Parts:
    """The curves of a case, or None for the `reason`; its peaks and lesions, or None where the pixel size is unknown.

    A map that says nothing has no peak, so that all lesions of its case are missed.
    """

    curves: Curves | None
    peaks: Peaks | None
    lesions: tuple[Lesion, ...] | None
    reason: str = ""


def parts_of(reading: Reading, degenerate: str = "") -> Parts:
    """The parts of one case; `degenerate` is why the map means nothing whatever its values, or ""."""
    reason = degenerate or reading.undefined
    curves = None if reason else Curves(sweep(reading), histogram(reading.ranking), box_curve(reading))
    if reading.grid.units != "mm":
        return Parts(curves, None, None, reason)
    if degenerate or reading.silent:
        reading = reading.of(torch.zeros_like(reading.values).masked_fill(~reading.seen, torch.nan))
    return Parts(curves, peaks(reading), by_lesion(reading), reason)
