"""How often the same map scores as well on the same finding laid elsewhere in the image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isnan

from medxai.metrics.chance import moved
from medxai.metrics.reading import Reading
from medxai.metrics.spec import Undefined

FEWEST_PLACES = 19
"""With fewer no p is as low as 0.05."""


@dataclass(frozen=True, slots=True)
class Permutation:
    """Mean score over shifted masks, and the share of them (the true place counted in) that score as well."""

    mean: float
    p: float
    places: int


def permutation(
    reading: Reading, metrics: Mapping[str, tuple[Callable[[Reading], float], str]], number: int = 99, seed: int = 0
) -> dict[str, Permutation]:
    """For each metric (with its better direction) p = (1 + places at least as good) / (1 + places): one-sided.

    The shape of the finding and the map are kept; only where the finding lies is drawn, uniformly among the places
    with as much of it in the field. Undefined where fewer than 19 such places exist, for then no p is below 0.05.
    """
    laid = [reading.against(mask) for mask in moved(reading.mask, reading.seen, number, seed)]
    found = {}
    for name, (metric, better) in metrics.items():
        here = metric(reading)
        there = [metric(other) for other in laid]
        if isnan(here) or len(there) < FEWEST_PLACES:
            reason = Undefined("the finding fits in too few other places")
            found[name] = Permutation(reason, reason, len(there))
            continue
        as_good = sum(value <= here if better == "lower" else value >= here for value in there)
        found[name] = Permutation(sum(there) / len(there), (1 + as_good) / (1 + len(there)), len(there))
    return found
