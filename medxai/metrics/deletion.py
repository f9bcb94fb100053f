"""What the network answers while the ranked units go, or come."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan

import torch

from medxai.metrics.probe import Probe
from medxai.metrics.spec import Better, MetricSpec, Undefined


def deletion(probe: Probe) -> float:
    """Area under the score while the most salient units are removed first: low is good (Petsiuk et al. 2018)."""
    return Undefined(probe.silent) if probe.silent else probe.deletion.area


def insertion(probe: Probe) -> float:
    """Area under the score while the most salient units are restored first: high is good (Petsiuk et al. 2018)."""
    return Undefined(probe.silent) if probe.silent else probe.insertion.area


ORACLE_LIMIT = 4096


@dataclass(frozen=True)
class Placed:
    """An area beside those of knowing nothing and of knowing the network: `value` is 0 for chance, 1 for the oracle.

    `random` is the mean over random orders and `spread` their standard deviation. Where units interact a map may beat
    the oracle, and `value` exceeds 1.
    """

    area: float
    random: float
    spread: float
    oracle: float

    @property
    def value(self) -> float:
        """(random - area) / (random - oracle); undefined where the oracle lies within the spread of chance."""
        if isnan(self.area + self.random + self.oracle):
            return Undefined("the model's answer is not finite")
        if not abs(self.random - self.oracle) > max(self.spread, 1e-9 * abs(self.random)):
            return Undefined("the order makes no difference to this model")
        return (self.random - self.area) / (self.random - self.oracle)


def placed(probe: Probe, restore: bool = False, draws: int = 5) -> Placed:
    """The deletion (or insertion) area between `draws` >= 2 random orders and the leave-one-out oracle.

    The oracle ranks the units by how far the removal of each alone lowers the score: one more image per unit. It is the
    best order where the effects of the units add up.
    """
    nothing = torch.zeros(probe.units.count, dtype=torch.float64)
    random = [probe.curve(probe.ranked(nothing, 1 + i), restore).area for i in range(draws)]
    mean, spread = torch.tensor(random, dtype=torch.float64).mean(), torch.tensor(random, dtype=torch.float64).std()
    own = probe.insertion if restore else probe.deletion
    return Placed(own.area, float(mean), float(spread), probe.curve(probe.ranked(probe.drops), restore).area)


def deletion_placed(probe: Probe) -> float:
    """Deletion area between chance (0) and the leave-one-out oracle (1); undefined above 4096 units."""
    return _refused(probe) or placed(probe).value


def insertion_placed(probe: Probe) -> float:
    """Insertion area between chance (0) and the leave-one-out oracle (1); undefined above 4096 units."""
    return _refused(probe) or placed(probe, restore=True).value


def _refused(probe: Probe) -> Undefined | None:
    if probe.silent or probe.units.count <= ORACLE_LIMIT:
        return Undefined(probe.silent) if probe.silent else None
    return Undefined(f"the oracle would ask {probe.units.count} images, more than {ORACLE_LIMIT}: take larger units")


def _row(fn: Callable[..., float], best: float | None, span: tuple[float, float], lower: bool = False) -> MetricSpec:
    better: Better = "lower" if lower else "higher"
    return MetricSpec(fn, needs="probe", best=best, span=span, better=better, claims=_LADDER)


_ANY = (-torch.inf, torch.inf)
_LADDER = ("exact", "blurred", "random", "inverted")
METRICS = (
    _row(deletion, None, _ANY, lower=True),
    _row(insertion, None, _ANY),
    _row(deletion_placed, 1.0, _ANY),
    _row(insertion_placed, 1.0, _ANY),
)
