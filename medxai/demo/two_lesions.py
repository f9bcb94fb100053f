"""Two lesions of which one is enough: how much of each Grad-CAM, IBA and its inverse mark."""

from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path

import torch
from torch import nn

from medxai.attribution.bottleneck.iba import IBA, InverseIBA
from medxai.attribution.gradient_cams import GradCAM
from medxai.core.protocols import Attributor
from medxai.core.saliency import Saliency
from medxai.core.target import ClassScore
from medxai.core.volume import Case, Mask
from medxai.demo.model import LESION
from medxai.demo.picture import side_by_side
from medxai.explanation import explain
from medxai.io.recipe import Recipe
from medxai.io.write import made_folder, write_file, write_json
from medxai.metrics.lesions import by_lesion
from medxai.metrics.reading import Reading
from medxai.shapes import Map

METHODS: dict[str, Attributor] = {
    "Grad-CAM": GradCAM(),
    "IBA": IBA(beta=0.01, sigma=0.5, copies=2, shared_channels=True),
    "Inverse IBA": InverseIBA(beta=0.01, sigma=0.5, copies=2, shared_channels=True),
}
UNIFORM = "chance: uniform"
PICTURE, NUMBERS = "two_lesions.png", "two_lesions.json"


@dataclass(frozen=True)
class Marks:
    """What a map makes of two lesions; NaN where it says nothing.

    The shares of its positive mass in the one that has more of it and in the other, and for a bottleneck the share of
    the score that is left without what it marks.
    """

    stronger: float
    weaker: float
    left: float


def compare(model: nn.Module, case: Case, recipe: Recipe, out: Path, device: str, seed: int) -> dict[str, Marks]:
    """What the map of each method, and a uniform one, make of the two lesions; written to `out`, with a picture."""
    mask = case.masks["lesion"]
    maps = {
        name: explain(model, case, method, ClassScore(LESION), recipe, device=device, seed=seed)
        for name, method in METHODS.items()
    }
    write_file(made_folder(out) / PICTURE, side_by_side(case.image, maps, mask))
    read = {name: saliency.on(mask.geometry) for name, saliency in maps.items()}
    outside = next(iter(read.values())).isnan()
    found = {name: _marks(read[name], mask, _left(saliency)) for name, saliency in maps.items()}
    found[UNIFORM] = _marks(torch.ones(outside.shape).masked_fill(outside, nan), mask, nan)
    write_json(out / NUMBERS, {name: asdict(marks) for name, marks in found.items()})
    return found


def _marks(values: Map, mask: Mask, left: float) -> Marks:
    weaker, stronger = sorted(lesion.share for lesion in by_lesion(Reading(values, mask.data, mask.geometry)))
    return Marks(stronger, weaker, left)


def _left(saliency: Saliency) -> float:
    """(score of the complement - score of noise) / (clean score - score of noise)."""
    told = saliency.provenance.details
    if not saliency.status.ok or "complement score" not in told:
        return nan
    clean, noise, complement = (torch.tensor(told[f"{of} score"]) for of in ("clean", "noise", "complement"))
    return float((complement - noise) / (clean - noise))
