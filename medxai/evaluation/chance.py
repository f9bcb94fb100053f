"""What a score is held against, and the rows that come of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan
from statistics import fmean

import numpy as np

from medxai.core.resample import read_on
from medxai.core.saliency import Saliency
from medxai.core.volume import Volume
from medxai.errors import GeometryError, UsageError
from medxai.evaluation.prior import on_axes_of, points_somewhere
from medxai.metrics import chance
from medxai.metrics.permutation import FEWEST_PLACES, permutation
from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec
from medxai.shapes import Map


@dataclass(frozen=True)
class Chance:
    """What to compare with besides a uniform map and a centre prior.

    `image` adds the map of its edges and that of the body in it; `others`, saliency of other patients for the same
    target (or plain maps whose axes run as the annotation's, as of `medxai.evaluation.prior`), adds their mean, from
    which a degenerate map, one that is not finite and one that is nowhere positive are left out; `noise` adds the mean
    score of maps of random values, as many as `DRAWS` and `DRAWN` allow; `places` lays the finding at that many other
    places of the field and states the share of them that score as well. Raises UsageError for 1 to 18 places, and for a
    seed below 0.
    """

    image: Volume | None = None
    others: tuple[Saliency | Map, ...] = ()
    noise: bool = True
    places: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if 0 < self.places < FEWEST_PLACES:
            raise UsageError("So few places give no p-value.", expected="19 places or more", found=f"{self.places}")
        if self.seed < 0:
            raise UsageError("This is no seed.", expected="a whole number of at least 0", found=f"{self.seed}")

    @cached_property
    def pointing(self) -> tuple[Saliency | Map, ...]:
        """The maps of other patients that are in their mean."""
        return tuple(one for one in self.others if points_somewhere(one))

    @property
    def notices(self) -> tuple[str, ...]:
        """How many maps of other patients are not."""
        left, told = len(self.others) - len(self.pointing), len(self.others)
        why = "degenerate, not finite or nowhere positive"
        return (f"{left} of {told} maps of other patients not in their mean: {why}",) if left else ()


UNASKED = Chance()
DRAWS, DRAWN = 5, 2**21
"""The most maps of noise, and the most values in all of them together; one map there always is."""


@dataclass(frozen=True)
class Rows:
    """The chance maps of one reading, each drawn once and sorted once."""

    reading: Reading
    against: Chance

    @cached_property
    def maps(self) -> Mapping[str, tuple[Reading, ...]]:
        """Readings of the maps that know nothing, by name; of noise several."""
        values, asked = self.reading.values, self.against
        maps = dict(chance.baselines(values))
        if asked.image is not None:
            grid = self.reading.grid
            if asked.image.geometry.units != grid.units:
                raise GeometryError("Image and annotation must both state their pixel size, or neither.")
            mean = read_on(asked.image.data.float().mean(0), asked.image.geometry, grid)
            maps["edges"] = chance.edges(values, mean, grid.spacing)
            maps["body"] = chance.body(values, mean)
        if asked.pointing:
            laid = [on_axes_of(self.reading.grid, one) if isinstance(one, Saliency) else one for one in asked.pointing]
            maps["others"] = chance.others(values, laid)
        rows: dict[str, tuple[Reading, ...]] = {name: (self.reading.of(one),) for name, one in maps.items()}
        if asked.noise:
            seeds = np.random.SeedSequence(asked.seed).generate_state(min(DRAWS, max(DRAWN // values.numel(), 1)))
            rows["noise"] = tuple(self.reading.of(chance.noise(values, int(seed))) for seed in seeds)
        return rows

    def of(self, spec: MetricSpec) -> Mapping[str, float]:
        """What each chance map scores; for a uniform map its closed form, where all of the mask was seen."""
        if spec.needs == "map":
            return {}
        known = self._share if spec.uniform is not None else None
        rows = {} if known is None or spec.uniform is None else {"uniform": spec.uniform(known)}
        return {
            name: rows[name] if name in rows else _mean(spec.fn(one) for one in drawn)
            for name, drawn in self.maps.items()
        }

    def p_values(self, specs: tuple[MetricSpec, ...]) -> Mapping[str, float]:
        """One-sided, for the metrics of the order and mass of voxels, which all places of the finding share."""
        if not self.against.places or self.reading.undefined:
            return {}
        asked = {spec.name: (spec.fn, spec.better) for spec in specs if spec.needs == "mask" and spec.uniform}
        found = permutation(self.reading, asked, self.against.places, self.against.seed)
        return {name: float(row.p) for name, row in found.items() if not isnan(row.p)}

    @cached_property
    def _share(self) -> float | None:
        found = self.reading.ranking
        caught = float(found.shares.sum())
        return caught / found.values.size if found.values.size and 0 < caught >= self.reading.mask_size else None


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not isnan(value)]
    return fmean(known) if known else nan
