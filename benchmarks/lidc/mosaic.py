"""Mosaics of 2 x 2 x 1 tiles: one nodule that an answer should lie on among three of other patients, at any place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.lidc.cohort import SHAPE, SPACING, WINDOW, Nodule
from medxai import Case, Geometry, Mask, Recipe, Volume

PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclass(frozen=True, eq=False)
class Mosaic:
    """An image that nobody has, in which one tile is the most malignant: where it is, and the nodule within it."""

    case: Case
    tile: Mask
    nodule: Mask


def mosaics(sick: Sequence[Nodule], well: Sequence[Nodule], number: int, seed: int = 0) -> list[Mosaic]:
    """That many mosaics, each of one of the `sick` and three of the `well`, four patients; the place is random too."""
    rng = np.random.default_rng(seed)
    return [_mosaic(f"mosaic_{i:03d}", *_drawn(rng, sick, well), int(rng.integers(4))) for i in range(number)]


def mosaic_recipe() -> Recipe:
    """Hounsfield units as the classifier knows them; nothing moves."""
    return Recipe.from_compose([WINDOW], "lidc_mosaic")


def _drawn(rng: np.random.Generator, sick: Sequence[Nodule], well: Sequence[Nodule]) -> tuple[Nodule, list[Nodule]]:
    malignant = sick[int(rng.integers(len(sick)))]
    benign: dict[str, Nodule] = {}
    for i in rng.permutation(len(well)):
        if well[i].patient != malignant.patient:
            benign.setdefault(well[i].patient, well[i])
        if len(benign) == len(PLACES) - 1:
            break
    return malignant, list(benign.values())


def _mosaic(name: str, malignant: Nodule, benign: Sequence[Nodule], place: int) -> Mosaic:
    members = [*benign[:place], malignant, *benign[place:]]
    image = _laid([nodule.tile[0] for nodule in members])
    grid = Geometry(np.diag([*SPACING, 1.0]), tuple(image.shape))
    tile = _laid([torch.full(SHAPE, nodule is malignant) for nodule in members])
    nodule = _laid([n.mask if n is malignant else torch.zeros_like(n.mask) for n in members])
    case = Case(name, Volume(image[None], grid, modality="CT"))
    return Mosaic(case, Mask(tile, grid), Mask(nodule, grid))


def _laid(parts: Sequence[Tensor]) -> Tensor:
    """Four tiles side by side, two along each of the first axes, in the order of `PLACES`."""
    return torch.cat([torch.cat([parts[0], parts[1]], 1), torch.cat([parts[2], parts[3]], 1)], 0)
