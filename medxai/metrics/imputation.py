"""What stands in the place of removed voxels. The rest of the image stays, bit for bit, and the image is never written.

A baseline is asked once per image and answers with a function from masks to images; what it holds at a voxel is
declared by its name and never left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from scipy import ndimage

from medxai.core.geometry import Geometry
from medxai.errors import GeometryError, InputError
from medxai.metrics.scene import Image, Scene
from medxai.metrics.units import Removed
from medxai.shapes import Images

Fill = Callable[[Removed], Images]
Baseline = Callable[[Scene], Fill]


def replaced(image: Image, reference: Image) -> Fill:
    """removed -> where(removed, reference, image), one new image per mask."""

    def fill(removed: Removed) -> Images:
        return torch.where(removed[:, None].to(image.device), reference, image)

    return fill


@dataclass(frozen=True)
class Constant:
    """One value per channel, or one for all, in the units of the network's input."""

    value: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        if not values or not all(isfinite(value) for value in values):
            raise InputError("A constant is a number.", expected="finite values", found=f"{self.value}")

    def __call__(self, scene: Scene) -> Fill:
        values = self.value if isinstance(self.value, tuple) else (self.value,) * len(scene.image)
        if len(values) != len(scene.image):
            raise InputError(
                "A constant per channel.", expected=f"{len(scene.image)} values", found=f"{len(values)} values"
            )
        column = torch.tensor(values, dtype=scene.image.dtype, device=scene.image.device)
        reference = column.reshape(-1, *[1] * len(scene.shape)).expand_as(scene.image)
        return replaced(scene.image, reference)


@dataclass(frozen=True)
class Mean:
    """The mean of each channel over the field."""

    def __call__(self, scene: Scene) -> Fill:
        means = scene.image[:, scene.field].double().mean(1)
        return Constant(tuple(float(mean) for mean in means))(scene)


@dataclass(frozen=True)
class Blur:
    """The image after a Gaussian of standard deviation `sigma`; in mm it follows the spacing of every axis."""

    sigma: float = 10.0
    unit: Literal["mm", "voxel"] = "mm"

    def __call__(self, scene: Scene) -> Fill:
        steps = scene.spacing_mm if self.unit == "mm" else (1.0,) * len(scene.shape)
        widths = (0.0, *(self.sigma / step for step in steps))
        blurred = ndimage.gaussian_filter(scene.image.detach().cpu().double().numpy(), widths, mode="nearest")
        return replaced(scene.image, torch.from_numpy(blurred).to(scene.image))


@dataclass(frozen=True, eq=False)
class Reference:
    """Another image on the same grid: the mean of a cohort, a healthy examination.

    `geometry` is the grid that the image was prepared on, None where only its shape is known.
    """

    image: Image
    geometry: Geometry | None = None

    def refuse_elsewhere(self, grid: Geometry) -> None:
        """Raises GeometryError where the image lies on another grid than the explained one's, as prepared."""
        if self.geometry is not None and not self.geometry.same(grid):
            raise GeometryError(
                "The image that takes the place of what is removed lies elsewhere than the one that is explained.",
                expected=f"{grid} from {_corner(grid)}",
                found=f"{self.geometry} from {_corner(self.geometry)}",
                remedy="Resample it onto the explained image's grid; a recipe with Orientation turns both alike.",
            )

    def __call__(self, scene: Scene) -> Fill:
        if self.image.shape != scene.image.shape:
            raise GeometryError(
                "The reference lies on another grid.",
                expected=f"{tuple(scene.image.shape)}",
                found=f"{tuple(self.image.shape)}",
            )
        return replaced(scene.image, self.image.to(scene.image))


@dataclass(frozen=True)
class HealthyPatch:
    """A box of healthy tissue of this image, continued over the whole grid by mirroring at its faces.

    `corner` and `size` are in voxels. Mirroring leaves no seams, and values stay those of the tissue.
    """

    corner: tuple[int, ...]
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.corner) != len(self.size) or min(self.corner, default=-1) < 0 or min(self.size) < 1:
            raise InputError(
                "A patch has a corner and a size.",
                expected="a corner from 0 and a size from 1 along each axis",
                found=f"{self}",
            )

    def __call__(self, scene: Scene) -> Fill:
        shape = tuple(scene.shape)
        ends = tuple(c + n for c, n in zip(self.corner, self.size, strict=True))
        fits = len(ends) == len(shape) and all(end <= length for end, length in zip(ends, shape, strict=True))
        if not fits:
            raise GeometryError("The patch leaves the image.", expected=f"a box within {shape}", found=f"{self}")
        reference = scene.image
        for axis, (corner, size) in enumerate(zip(self.corner, self.size, strict=True), 1):
            phase = (torch.arange(shape[axis - 1]) - corner) % (2 * size)
            index = corner + torch.where(phase < size, phase, 2 * size - 1 - phase)
            reference = reference.index_select(axis, index.to(reference.device))
        return replaced(scene.image, reference)


def default_baseline(scene: Scene) -> Fill:
    """A blur of 10 mm, or of a twentieth of the longest side where the voxel size is unknown."""
    blur = Blur(10.0) if scene.spacing is not None else Blur(max(scene.shape) / 20, "voxel")
    return blur(scene)


def _corner(grid: Geometry) -> str:
    return f"({', '.join(f'{value:.4g}' for value in grid.affine[:3, 3])})"
