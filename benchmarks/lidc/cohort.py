"""Nodules as tiles of one size on one grid, and the patients who are trained on or kept for testing."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.transforms import CenterSpatialCrop, Orientation, ScaleIntensityRange, Spacing
from rich.progress import track
from torch import Tensor

import medxai
from medxai import Geometry, Mask, Recipe
from medxai.shapes import MaskArray

DATA = Path(os.environ.get("MEDXAI_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ct" / "lidc_voi"
SHAPE = (32, 32, 4)
SPACING = (0.75, 0.75, 1.25)  # mm: a tile is 24 x 24 x 5 mm
TEST_SHARE = 0.4
AXES = (("L", "R"), ("P", "A"), ("I", "S"))
WINDOW = ScaleIntensityRange(-1000, 400, b_min=-1, b_max=1, clip=True)


@dataclass(frozen=True, eq=False)
class Nodule:
    """The middle of one nodule's crop, in Hounsfield units (1, 32, 32, 4), and which of its voxels are nodule.

    `score` is how malignant most readers found it, 1 (highly unlikely) to 5 (highly suspicious); `malignant` is the
    diagnosis that the labels state beside it. `diameter` is in mm.
    """

    case: str
    patient: str
    malignant: bool
    score: int
    diameter: float
    tile: Tensor
    mask: MaskArray


def load_nodules(root: Path = DATA) -> tuple[list[Nodule], int]:
    """Every nodule whose crop fills a tile, in the order of `labels.csv`, and how many were too small a crop."""
    with (root / "labels.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    found = [_nodule(root, row) for row in track(rows, "reading nodules", transient=True)]
    nodules = [nodule for nodule in found if nodule is not None]
    return nodules, len(rows) - len(nodules)


def split(nodules: Sequence[Nodule], seed: int = 0, share: float = TEST_SHARE) -> tuple[list[Nodule], list[Nodule]]:
    """Nodules to train on and to test with; every patient is on one side alone."""
    patients = sorted({nodule.patient for nodule in nodules})
    order = np.random.default_rng(seed).permutation(len(patients))
    kept = {patients[i] for i in order[: round(share * len(patients))]}
    return [n for n in nodules if n.patient not in kept], [n for n in nodules if n.patient in kept]


def tiles(nodules: Sequence[Nodule]) -> Tensor:
    """What the classifier sees of nodules, (nodule, 1, 32, 32, 4), lung to bone as -1 to 1."""
    windowed: Tensor = WINDOW(torch.stack([nodule.tile for nodule in nodules]))
    return windowed


def _nodule(root: Path, row: dict[str, str]) -> Nodule | None:
    name = f"{row['case']}.nii.gz"
    prepared = _tile_recipe().apply(medxai.read_volume(root / "image" / name))
    if prepared.geometry.shape != SHAPE:
        return None
    mask = _nearest(prepared.geometry, medxai.read_mask(root / "nodule_mask" / name))
    malignant, score = row["Diagnosis"] == "Malign", int(row["Malignancy_value"])
    found = row["case"], row["patient_id"], malignant, score, float(row["diameter_mm"])
    return Nodule(*found, prepared.images[0], mask)


def _tile_recipe() -> Recipe:
    moves = [Orientation("RAS", labels=AXES), Spacing(SPACING), CenterSpatialCrop(SHAPE)]
    return Recipe.from_compose(moves, "lidc_tile")


def _nearest(grid: Geometry, mask: Mask) -> MaskArray:
    """The mask at the voxels nearest to the centres of `grid`: a mosaic has no grid that was annotated."""
    centres = grid.world(np.moveaxis(np.indices(grid.shape3), 0, -1).astype(np.float64))
    index = np.rint(mask.geometry.index(centres)).astype(int).clip(0, np.array(mask.geometry.shape3) - 1)
    return mask.data[tuple(torch.from_numpy(np.moveaxis(index, -1, 0)))]
