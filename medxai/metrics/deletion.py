"""What the network answers while the ranked units go, or come."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isnan, nan, prod

import torch

from medxai.metrics.probe import PerUnit, Probe
from medxai.metrics.spec import NOT_FINITE, Better, MetricSpec, Undefined
from medxai.metrics.units import Cubes


def deletion(probe: Probe) -> float:
    """Area under the score while the most salient units are removed first: low is good (Petsiuk et al. 2018)."""
    return Undefined(probe.silent) if probe.silent else probe.deletion.area


def insertion(probe: Probe) -> float:
    """Area under the score while the most salient units are restored first: high is good (Petsiuk et al. 2018)."""
    return Undefined(probe.silent) if probe.silent else probe.insertion.area


def monotonicity(probe: Probe) -> float:
    """Share of the steps at which the score does not fall as the least salient units are restored first.

    Arya et al. 2019, who ask that all do: of single voxels of a real network hardly ever true.
    """
    if probe.silent:
        return Undefined(probe.silent)
    scores = probe.curve(probe.ranked(-probe.units.mean(probe.saliency)), restore=True).score
    if not bool(scores.isfinite().all()):
        return Undefined(NOT_FINITE)
    return float((scores.diff() >= 0).double().mean())


ORACLE_LIMIT = 4096
"""Units that the oracle asks one by one; of more it asks about larger cubes."""


@dataclass(frozen=True)
class Placed:
    """An area beside those of knowing nothing and of knowing the network: `value` is 0 for chance, 1 for the oracle.

    `random` is the mean over random orders and `spread` their standard deviation; `asked` is how many parts the oracle
    asked one by one. Where units interact, or the oracle asked larger parts than the map ranks, a map may beat it, and
    `value` exceeds 1.
    """

    area: float
    random: float
    spread: float
    oracle: float
    asked: int

    @property
    def value(self) -> float:
        """(random - area) / (random - oracle); undefined where the oracle lies within the spread of chance."""
        if isnan(self.area + self.random + self.oracle):
            return Undefined(NOT_FINITE)
        if not abs(self.random - self.oracle) > max(self.spread, 1e-9 * abs(self.random)):
            return Undefined("the order makes no difference to this model")
        return (self.random - self.area) / (self.random - self.oracle)


def placed(probe: Probe, restore: bool = False, draws: int = 5) -> Placed:
    """The deletion (or insertion) area between `draws` >= 2 random orders and the leave-one-out oracle.

    The oracle ranks the units by how far the removal of each alone lowers the score: one more image per unit. It is the
    best order where the effects of the units add up. Of more than 4096 units it asks about cubes, as few voxels wide as
    that allows, and each unit has the drop per voxel of its cube.
    """
    nothing = torch.zeros(probe.units.count, dtype=torch.float64)
    random = [probe.curve(probe.ranked(nothing, 1 + i), restore).area for i in range(draws)]
    mean, spread = torch.tensor(random, dtype=torch.float64).mean(), torch.tensor(random, dtype=torch.float64).std()
    own = probe.insertion if restore else probe.deletion
    worth, asked = oracle(probe)
    best = probe.curve(probe.ranked(worth), restore).area if bool(worth.isfinite().all()) else nan
    return Placed(own.area, float(mean), float(spread), best, asked)


def oracle(probe: Probe) -> tuple[PerUnit, int]:
    """What the removal of each unit alone takes from the score, and how many removals were asked."""
    if probe.units.count <= ORACLE_LIMIT:
        return probe.drops, probe.units.count
    shape, side = probe.scene.shape, 2
    while prod(-(-size // side) for size in shape) > ORACLE_LIMIT:
        side += 1
    coarse = replace(probe, perturbation=replace(probe.perturbation, partition=Cubes(side, "voxel")))
    per_voxel = torch.cat([coarse.drops / coarse.units.sizes, torch.zeros(1, dtype=torch.float64)])
    return probe.units.mean(per_voxel[coarse.units.labels].to(torch.float64)), coarse.units.count


def deletion_placed(probe: Probe) -> float:
    """Deletion area between chance (0) and the leave-one-out oracle (1), which asks up to 4096 images more."""
    return Undefined(probe.silent) if probe.silent else placed(probe).value


def insertion_placed(probe: Probe) -> float:
    """Insertion area between chance (0) and the leave-one-out oracle (1), which asks up to 4096 images more."""
    return Undefined(probe.silent) if probe.silent else placed(probe, restore=True).value


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
    MetricSpec(monotonicity, needs="probe", best=1.0, span=(0.0, 1.0)),
)
