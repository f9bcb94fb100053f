"""A patient whose landmarks are known in millimetres, and networks whose class-activation map is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from medxai.core.geometry import Geometry
from tests.io.phantoms import write_series

Array = NDArray[np.float64]
WIDTH = 2.2  # voxels; wide enough that sampling alone moves no centre of mass


@dataclass(frozen=True)
class Patient:
    """A grid, landmarks in mm (RAS+) and the voxel values: one Gaussian of its own height at each landmark."""

    grid: Geometry
    landmarks: Array
    heights: Array
    voxels: Array


def patient(seed: int, size: int = 56) -> Patient:
    """A random grid (oblique, flipped, permuted, 0.3 to 8 mm) with five landmarks that no flip maps onto each other."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = (
        rotation[:, rng.permutation(3)] * rng.choice([-1, 1], 3) * np.exp(rng.uniform(*np.log([0.3, 8]), 3))
    )
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    shape = tuple(int(n) for n in rng.integers(size - 4, size + 5, 3))
    spots = np.array([[0.3, 0.3, 0.35], [0.7, 0.35, 0.3], [0.35, 0.7, 0.65], [0.7, 0.68, 0.4], [0.6, 0.3, 0.7]])
    index = spots * (np.array(shape) - 1) + rng.uniform(-0.5, 0.5, (5, 3))
    heights = np.array([1.0, 0.9, 0.8, 0.7, 0.6])
    cells = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    squared = ((cells[None] - index[:, None, None, None]) ** 2).sum(-1)
    voxels = (heights[:, None, None, None] * np.exp(-squared / (2 * WIDTH**2))).sum(0)
    grid = Geometry(affine, shape)
    return Patient(grid, grid.world(index), heights, voxels)


def save(person: Patient, folder: Path) -> Path:
    path = folder / "scan.nii.gz"
    image = nib.Nifti1Image(person.voxels.astype(np.float32), person.grid.affine)
    image.set_sform(person.grid.affine, 1)
    image.set_qform(None, 0)
    nib.save(image, path)
    return path


def save_series(person: Patient, folder: Path) -> Path:
    """A DICOM series under shuffled names and InstanceNumbers, its values in thousandths."""
    write_series(folder / "series", np.rint(1000 * person.voxels).astype(np.int16), person.grid.affine)
    return folder / "series"


def save_mha(person: Patient, folder: Path) -> Path:
    path = folder / "scan.mha"
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ person.grid.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(person.voxels.astype(np.float32).T)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path))
    return path


def recipe(seed: int, person: Patient, path: Path) -> Path:
    """A random chain of transforms that are affine in space, with resampling for odd seeds; no landmark is cut off."""
    rng = np.random.default_rng(seed + 1)
    spacing = np.array(person.grid.spacing)
    codes = ["".join(rng.permutation([rng.choice(list(pair)) for pair in ("LR", "PA", "IS")])) for _ in range(2)]
    pad = [int(n) for n in rng.integers(0, 6, 3)]
    sure: list[dict[str, dict[str, object]]] = [{"Orientation": {"axcodes": codes[0]}}]
    extra: list[dict[str, dict[str, object]]] = [
        {"Flip": {"spatial_axis": int(rng.integers(0, 3))}},
        {"Rotate90": {"k": int(rng.integers(1, 4)), "spatial_axes": [0, 2]}},
        {"SpatialPad": {"spatial_size": [64 + n for n in pad]}},
        {"BorderPad": {"spatial_border": pad}},
        {"CenterSpatialCrop": {"roi_size": [int(min(person.grid.shape) * 0.97)] * 3}},
    ]
    step = [float(s) for s in _reordered(spacing, person, codes[1]) * rng.uniform(0.5, 0.8, 3)]
    turn = [float(angle) for angle in rng.uniform(-0.4, 0.4, 3)]
    resampling: list[list[dict[str, dict[str, object]]]] = [
        [{"Orientation": {"axcodes": codes[1]}}, {"Spacing": {"pixdim": step}}],
        [{"Rotate": {"angle": turn, "keep_size": False, "mode": "bilinear"}}],
        [{"Zoom": {"zoom": [float(z) for z in rng.uniform(1.2, 1.6, 3)], "keep_size": False, "mode": "trilinear"}}],
        [{"Resize": {"spatial_size": [int(n) for n in rng.integers(80, 100, 3)], "mode": "trilinear"}}],
    ]
    chosen = [extra[i] for i in rng.permutation(5)[:2]]
    steps = [*sure, *chosen, *resampling[seed // 2 % 4]] if seed % 2 else [*sure, *chosen]
    path.write_text(yaml.safe_dump({"name": "random", "transforms": steps}), "utf-8")
    return path


def _reordered(spacing: Array, person: Patient, codes: str) -> Array:
    pairs = ["LR", "PA", "IS"]
    axis_of = {next(p for p in pairs if letter in p): axis for axis, letter in enumerate(person.grid.axcodes)}
    return np.array([spacing[axis_of[next(p for p in pairs if letter in p)]] for letter in codes])


def centres(values: Array, affine: Array, landmarks: Array) -> Array:
    """Centre of mass, in mm, of the values around each landmark; far away where there are none."""
    index, parts = _parts(values, affine, landmarks)
    nowhere = np.full(3, 1e9)
    middles = np.array([(mine[:, None] * index).sum(0) / mine.sum() if mine.any() else nowhere for mine in parts])
    return middles @ affine[:3, :3].T + affine[:3, 3]


def masses(values: Array, affine: Array, landmarks: Array) -> Array:
    """Sum of the values around each landmark."""
    return np.array([mine.sum() for mine in _parts(values, affine, landmarks)[1]])


def _parts(values: Array, affine: Array, landmarks: Array) -> tuple[Array, list[Array]]:
    """Voxel indices, and per landmark the values of the voxels to which it is the nearest."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in values.shape], indexing="ij"), -1).reshape(-1, 3)
    home = (landmarks - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    squared = ((index[:, None] - home[None]) ** 2).sum(-1)
    mass = np.nan_to_num(values).reshape(-1)
    return index.astype(np.float64), [mass * (squared.argmin(1) == k) for k in range(len(landmarks))]


class Looker(nn.Module):
    """Its map at layer `act` is the image smoothed by [1 2 1] / 4 and sampled at every 2**levels-th voxel, exactly."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        binomial = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.einsum("i,j,k->ijk", binomial, binomial, binomial)[None, None]
        self.down = nn.Sequential(*[nn.Conv3d(1, 1, 3, stride=2, padding=1, bias=False) for _ in range(levels)])
        self.act, self.head = nn.ReLU(), nn.Linear(1, 2)
        with torch.no_grad():
            for conv in self.down:
                conv.weight.copy_(kernel)
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.down(x)).flatten(2).mean(2))


def looker(levels: int = 0) -> nn.Module:
    return Looker(levels)


def weights(folder: Path, levels: int) -> Path:
    path = folder / f"looker{levels}.pt"
    torch.save(Looker(levels).state_dict(), path)
    return path


def command(image: Path, folder: Path, plan: Path, levels: int, out: Path) -> Sequence[str]:
    return [
        "explain", str(image), "--model", "tests.truth:looker", "--factory-arg", f"levels={levels}",
        "--weights", str(weights(folder, levels)), "--recipe", str(plan), "--method", "GradCAM",
        "--layer", "act", "--target", "1", "-o", str(out), "--device", "cpu",
    ]  # fmt: skip
