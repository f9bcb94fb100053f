"""Does the attribution of what is removed say by how much the score falls: random sets of units, no ranking."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from medxai.metrics.probe import Probe
from medxai.metrics.spec import NOT_FINITE, MetricSpec, Undefined, reason
from medxai.metrics.units import Chosen
from medxai.model.scoring import held

Draws = Float64[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class Effects:
    """Of each random set of units: the sum of the map over it, and how far its removal lowers the score."""

    attributed: Draws
    drop: Draws

    @property
    def correlation(self) -> float:
        """Pearson's r, undefined where either is constant or not finite."""
        a, b = self.attributed.numpy(), self.drop.numpy()
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return Undefined(NOT_FINITE)
        flat = [
            name for name, x in (("the map", a), ("the score", b)) if len(x) < 2 or np.ptp(x) <= 1e-9 * abs(x).max()
        ]
        return Undefined(f"{flat[0]} gives every set the same") if flat else float(np.corrcoef(a, b)[0, 1])


def effects(probe: Probe, size: int, draws: int = 100) -> Effects:
    """`draws` random sets of `size` units, removed."""
    return _measured(probe, [size] * draws, stream=size)


def sensitivity_n_curve(probe: Probe, points: int = 6, draws: int = 100) -> dict[int, float]:
    """Pearson's r of attribution and drop over random sets of n units, for n from 1 to 80 % in even ratios.

    Ancona et al. 2018. For a linear score and the contribution of each voxel r is 1 at every n.
    """
    sizes = np.geomspace(1, max(1.0, 0.8 * probe.units.count), points).round().astype(int)
    return {int(size): effects(probe, int(size), draws).correlation for size in np.unique(sizes)}


def sensitivity_n(probe: Probe) -> float:
    """Mean over n of the correlation of attribution and drop over random sets of n units (Ancona et al. 2018)."""
    if probe.silent:
        return Undefined(probe.silent)
    values = list(sensitivity_n_curve(probe).values())
    if any(reason(value) == NOT_FINITE for value in values):
        return Undefined(NOT_FINITE)
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else values[0]


def pooled_sensitivity_n(probes: Sequence[Probe], share: float, draws: int = 100) -> float:
    """One correlation over the sets of all images, each of `share` of its units: scale across images counts."""
    found = [effects(probe, max(1, round(share * probe.units.count)), draws) for probe in probes]
    return Effects(torch.cat([f.attributed for f in found]), torch.cat([f.drop for f in found])).correlation


def faithfulness_correlation(probe: Probe) -> float:
    """Correlation of attribution and drop over 100 random sets of a fifth of the units (Bhatt et al. 2020)."""
    return Undefined(probe.silent) if probe.silent else effects(probe, max(1, probe.units.count // 5)).correlation


def infidelity(probe: Probe) -> float:
    """The share of the drops' square that the map leaves unexplained at its best scale (Yeh et al. 2019): 0 is best.

    min_b E[(b I.S - (f(x) - f(x - I)))^2] / E[(f(x) - f(x - I))^2] in [0, 1], where x - I is the image after the
    removal of a random set of up to half of the units, I summed over channels, 100 sets. The map is read as a gradient;
    the best scale b is that of the authors' code and of captum's normalize=True. For a linear score and its gradient 0.
    Any map of one sign explains that larger sets weigh more, so random maps come close to the evidence.
    """
    if probe.silent:
        return Undefined(probe.silent)
    a, b = infidelity_terms(probe)
    if not bool(b.isfinite().all()):
        return Undefined(NOT_FINITE)
    if not bool((b**2).sum() > 0):
        return Undefined("no removal changes the score")
    explained = float((a * b).sum() ** 2 / (a**2).sum()) if bool((a**2).sum() > 0) else 0.0
    return max(0.0, 1 - explained / float((b**2).sum()))


def infidelity_terms(probe: Probe, draws: int = 100) -> tuple[Draws, Draws]:
    """I.S and f(x) - f(x - I) of each random perturbation I."""
    sizes = torch.randint(1, max(2, probe.units.count // 2 + 1), (draws,), generator=probe.scene.generator(7)).tolist()
    values = probe.saliency.masked_fill(~probe.scene.field, 0).double().cpu()
    dots, scores = [], []
    with held(probe.score, probe.image.device) as score:
        for chosen in _sets(probe, sizes, stream=8):
            images = probe.fill(probe.units.voxels(chosen))
            step = (probe.image - images).double().sum(1).cpu()
            dots.append((step * values).flatten(1).sum(1))
            scores.append(score(images).double().cpu())
    return torch.cat(dots), probe.intact - torch.cat(scores)


def _measured(probe: Probe, sizes: Sequence[int], stream: int) -> Effects:
    worth, sums = probe.units.sum(probe.saliency), list[Tensor]()

    def watched() -> Iterator[Chosen]:
        for chosen in _sets(probe, sizes, stream):
            sums.append(chosen.double() @ worth)
            yield chosen

    scores = probe.answers(watched())
    return Effects(torch.cat(sums), probe.intact - scores)


def _sets(probe: Probe, sizes: Sequence[int], stream: int) -> Iterator[Chosen]:
    generator = probe.scene.generator(1000 + stream)
    for some in torch.split(torch.tensor(sizes), probe.batch):
        yield _ranks(len(some), probe.units.count, generator) < some[:, None]


def _ranks(rows: int, count: int, generator: torch.Generator) -> Int[Tensor, "n u"]:
    """Each row a random permutation of 0 .. count - 1."""
    return torch.rand(rows, count, generator=generator, dtype=torch.float64).argsort(1)


_LADDER = ("exact", "blurred", "random", "inverted")
METRICS = (
    MetricSpec(sensitivity_n, needs="probe", best=1.0, span=(-1.0, 1.0), claims=_LADDER),
    MetricSpec(faithfulness_correlation, needs="probe", best=1.0, span=(-1.0, 1.0), claims=_LADDER),
    MetricSpec(infidelity, needs="probe", best=0.0, span=(0.0, 1.0), better="lower", claims=("exact", "shifted")),
)
