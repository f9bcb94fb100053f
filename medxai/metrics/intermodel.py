"""Compare the maps of several models where the models' own robustness to removal cancels (arXiv 2303.14608)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from medxai.errors import UsageError
from medxai.metrics.curves import Curve
from medxai.metrics.probe import Probe

Table = Float64[Tensor, "m m"]


@dataclass(frozen=True, eq=False)
class InterModel:
    """`area[i, j]`: the area measured on model i as the units go in the order of model j's map; the mean over `images`.

    The paper's exact formula was not at hand: the whole matrix is kept, and any definition follows from it.
    """

    area: Table
    images: int = 1

    @property
    def intra(self) -> Float64[Tensor, " m"]:
        """Each model's map on the model itself, area[j, j]."""
        return self.area.diagonal()

    @property
    def inter(self) -> Float64[Tensor, " m"]:
        """Each map's mean over the other models, of `centred`: 0 for equal maps, however robust the models are.

        The means of the areas themselves are over different models for each map, and would tell these apart.
        """
        return (self.centred.sum(0) - self.centred.diagonal()) / (len(self.area) - 1)

    @property
    def centred(self) -> Table:
        """The matrix less the mean of each evaluating model: what the map adds to the evaluator's own robustness."""
        return self.area - self.area.mean(1, keepdim=True)


def inter_model(probes: Sequence[Probe], restore: bool = False) -> InterModel:
    """Deletion (or insertion) of one image between models; `probes` hold the same image, each its model and map.

    As many curves as the square of the models. Average the matrices of the images on which all models are right.
    Raises UsageError for fewer than two probes, or probes of different images.
    """
    if len(probes) < 2 or any(not torch.equal(p.image, probes[0].image) for p in probes):
        raise UsageError("Models are compared on one image.", expected="two or more probes of the same image")
    rows = [[_curve(judge.of(told.saliency), restore).area for told in probes] for judge in probes]
    return InterModel(torch.tensor(rows, dtype=torch.float64))


def _curve(probe: Probe, restore: bool) -> Curve:
    return probe.insertion if restore else probe.deletion
