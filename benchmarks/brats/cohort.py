"""The four patients, their prepared grids, and where patches with and without tumour lie."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Orientation, ScaleIntensityRange, Spacing, SpatialCrop, Transform
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from torch import Tensor

import medxai
from medxai import Case, Geometry, Mask, Recipe

DATA = Path(os.environ.get("MEDXAI_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "mri" / "brats2013"
CHANNELS = ("Flair_subtrMeanDivStd.nii.gz", "T1c_subtrMeanDivStd.nii.gz")
LABELS, BRAIN = "OTMultiClass.nii.gz", "brainmask.nii.gz"
SIDE = 24
STEP = 2  # source voxels of 1 mm per model voxel
OFF_CENTRE = 4.0
SHARE = (0.05, 0.5)
BRAIN_SHARE = 0.4
BESIDE = 8
AXES = (("L", "R"), ("P", "A"), ("I", "S"))

Corner = tuple[int, int, int]
Corners = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Patient:
    """One examination, its tumour, the whole head on the model's 2 mm grid, and what the patch at each corner holds."""

    case: Case
    tumour: Mask
    brain: Case
    brain_corners: tuple[Corner, Corner]
    tumour_share: NDArray[np.float64]
    brain_share: NDArray[np.float64]
    off_centre: NDArray[np.float64]

    @property
    def healthy(self) -> Corners:
        """Corners of the patches with at least `BRAIN_SHARE` brain and not one voxel of tumour."""
        return np.argwhere((self.tumour_share == 0) & (self.brain_share >= BRAIN_SHARE))

    @property
    def beside(self) -> Corners:
        """Corners of healthy patches that at most `BESIDE` voxels along each axis would bring onto tumour."""
        near = maximum_filter(self.tumour_share > 0, 2 * BESIDE + 1)
        return np.argwhere((self.tumour_share == 0) & (self.brain_share >= BRAIN_SHARE) & near)

    def diseased(self, share: tuple[float, float] = SHARE, off_centre: float = OFF_CENTRE) -> Corners:
        """Corners of the patches with such a share of tumour, its centroid at least that many voxels off the middle."""
        low, high = share
        kept = (self.tumour_share >= low) & (self.tumour_share <= high) & (self.off_centre >= off_centre)
        return np.argwhere(kept)

    def patches(self, corners: Corners) -> Tensor:
        """The voxels of patches, (patch, channel, 24, 24, 24)."""
        voxels = self.brain.image.data
        return torch.stack([voxels[:, i : i + SIDE, j : j + SIDE, k : k + SIDE] for i, j, k in corners.tolist()])


def load_patient(folder: Path) -> Patient:
    """Images, every tumour label as one region, and the 2 mm grid of the patient in `folder`."""
    labels = medxai.read_volume(folder / LABELS)
    tumour = Mask(labels.data[0] > 0, labels.geometry)
    case = medxai.load_case(*(folder / name for name in CHANNELS), masks={"tumour": tumour}, case_id=folder.name)
    brain = whole_recipe().apply(case.image)
    image = replace(case.image, data=brain.images[0], geometry=brain.geometry)
    inside = _at(brain.geometry, medxai.read_mask(folder / BRAIN))
    ill = _at(brain.geometry, tumour)
    counts = _box_sums(ill)
    centroid = [_box_sums(ill * index) / np.maximum(counts, 1) for index in np.indices(ill.shape)]
    middle = [corner + (SIDE - 1) / 2 for corner in np.indices(counts.shape)]
    off = np.sqrt(sum((c - m) ** 2 for c, m in zip(centroid, middle, strict=True)))
    held = np.argwhere(inside)
    ends = _corner(held.min(0)), _corner(held.max(0) + 1 - SIDE)
    shares = counts / SIDE**3, _box_sums(inside) / SIDE**3
    return Patient(case, tumour, replace(case, image=image), ends, *shares, off)


def load_patients(root: Path = DATA) -> tuple[Patient, ...]:
    """Every patient below `root`, in the order of their folders."""
    return tuple(load_patient(folder) for folder in sorted(root.iterdir()) if folder.is_dir())


class CentreOnTissue(Transform):  # type: ignore[misc]
    """Subtracts from each channel the median of its voxels above background, which a tumour hardly moves."""

    def __call__(self, image: Tensor) -> Tensor:
        medians = [channel[channel > channel.min()].median() for channel in torch.as_tensor(image.numpy())]
        return image - torch.stack(medians).reshape(-1, 1, 1, 1)


def whole_recipe() -> Recipe:
    """The whole head at 2 mm, intensities (z-scores) about the tissue's median, limited to what a tumour reaches."""
    return _recipe("brats_whole", [Spacing((STEP,) * 3)])


def patch_recipe(corner: Corner) -> Recipe:
    """One patch of the 2 mm grid, cut from the 1 mm scan before it is resampled: the same voxels, sooner."""
    start = [STEP * c for c in corner]
    cut = SpatialCrop(roi_start=start, roi_end=[s + STEP * (SIDE - 1) + 1 for s in start])
    return _recipe("brats_patch", [cut, Spacing((STEP,) * 3)])


def _recipe(name: str, moves: list[Transform]) -> Recipe:
    limit = ScaleIntensityRange(-3, 5, b_min=-1.5, b_max=2.5, clip=True)
    steps = [CentreOnTissue(), Orientation("RAS", labels=AXES), *moves, limit]
    return Recipe.from_compose(steps, name, trusted=(CentreOnTissue.__name__,))


def crop_recipe(corner: Corner) -> Recipe:
    """The same patch, cut from a brain that is already on the 2 mm grid."""
    return Recipe.from_compose([SpatialCrop(roi_start=corner, roi_end=[c + SIDE for c in corner])], "brats_crop")


def _corner(index: Corners) -> Corner:
    i, j, k = index.tolist()
    return i, j, k


def within(mask: Mask, field: Geometry) -> Mask:
    """The part of an annotation, on its own voxels, that lies between the outermost voxel centres of `field`."""
    ends = np.array(field.shape3) - 1.0
    corners = np.array([field.world(ends * pick) for pick in np.ndindex(2, 2, 2)])
    index = mask.geometry.index(corners)
    start = np.maximum(np.ceil(index.min(0) - 1e-6), 0).astype(int)
    stop = np.minimum(np.floor(index.max(0) + 1e-6).astype(int) + 1, mask.geometry.shape3)
    data = mask.data[tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist(), strict=True))]
    return Mask(data, mask.geometry.coarse(start.tolist(), (1.0,) * 3, data.shape), mask.notices)


def _at(grid: Geometry, mask: Mask) -> NDArray[np.int64]:
    """The mask at the voxel centres of `grid`, every one of which is a voxel centre of the mask."""
    index = mask.geometry.index(grid.world(np.moveaxis(np.indices(grid.shape3), 0, -1).astype(np.float64)))
    nearest = np.rint(index)
    if np.abs(index - nearest).max() > 1e-3:
        raise ValueError("the 2 mm grid does not pick voxels of the annotation")
    return np.asarray(mask.data.numpy()[tuple(np.moveaxis(nearest.astype(int), -1, 0))], np.int64)


def _box_sums(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums over all boxes of `SIDE` voxels a side, by the corner where they begin."""
    sums = np.pad(values, ((1, 0),) * 3).cumsum(0).cumsum(1).cumsum(2)
    for axis in range(3):
        count = sums.shape[axis]
        sums = sums.take(range(SIDE, count), axis) - sums.take(range(count - SIDE), axis)
    return sums
