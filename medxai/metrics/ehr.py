"""Effective heat ratio: how much of the hottest region lies in the mask, averaged over how hot is hottest.

Values below a tenth of the maximum are dropped. With t_q = min(q-quantile of the others, 0.99 max S) for q = 0, 0.1 ...
1 and B_q = {S >= t_q}, the ratio at q is integrated over q by trapezia. Zhang et al. 2021 (InputIBA) divide the heat in
the mask by the *number* of voxels of B_q; the map is brought to maximum 1 first, without which that form depends on
the unit of the map.
"""

import numpy as np
from scipy.integrate import trapezoid

from medxai.metrics.ranking import Array
from medxai.metrics.reading import Reading
from medxai.metrics.spec import RUNGS, MetricSpec, Undefined

_FLOOR, _CEILING = 0.1, 0.99
_QUANTILES = np.linspace(0, 1, 11)


def ehr_published(reading: Reading) -> float:
    """Effective heat ratio as published: heat of B_q in the mask, over the number of voxels of B_q."""
    if reading.undefined:
        return Undefined(reading.undefined)
    cuts = _cuts(reading)
    inside, _ = reading.ranking.heat(cuts)
    return float(trapezoid(inside / reading.peak / reading.ranking.count(cuts), _QUANTILES))


def ehr_unweighted(reading: Reading) -> float:
    """Effective heat ratio of voxels: share of B_q that lies in the mask."""
    if reading.undefined:
        return Undefined(reading.undefined)
    cuts = _cuts(reading)
    return float(trapezoid(reading.ranking.caught(cuts) / reading.ranking.count(cuts), _QUANTILES))


def ehr_mass(reading: Reading) -> float:
    """Effective heat ratio of mass: share of the heat of B_q that lies in the mask."""
    if reading.undefined:
        return Undefined(reading.undefined)
    inside, everywhere = reading.ranking.heat(_cuts(reading))
    return float(trapezoid(inside / everywhere, _QUANTILES))


def _cuts(reading: Reading) -> Array:
    values = reading.ranking.values
    hot = values[np.searchsorted(values, values.dtype.type(_FLOOR * reading.peak)) :]
    quantiles = np.quantile(hot.astype(np.float64), _QUANTILES)
    return np.minimum(quantiles, _CEILING * reading.peak).astype(values.dtype)


def _share(share: float) -> float:
    return share


METRICS = tuple(
    MetricSpec(fn, "mask", best=1.0, span=(0.0, 1.0), uniform=_share, claims=RUNGS, ties="together")
    for fn in (ehr_published, ehr_unweighted, ehr_mass)
)
