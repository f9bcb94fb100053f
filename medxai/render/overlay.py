"""One plane as pixels: the grey image, the map over it, a veil where the model never looked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medxai.core.annotation import Annotation
from medxai.core.geometry import Geometry
from medxai.core.resample import inside, read_on
from medxai.render.palette import VEIL, Pixels, Scale, Values
from medxai.render.slices import View

_STRIPE = 9


@dataclass(frozen=True, eq=False)
class Scene:
    """What a picture is made of, as three-axis arrays on one grid; `scale` is None where there is no map to show."""

    grid: Geometry
    image: Values
    window: tuple[float, float]
    values: Values
    mask: NDArray[np.bool_] | None
    scale: Scale | None

    def film(self, view: View, size: tuple[int, int]) -> Pixels:
        """The image alone: red, green, blue of size (width, height)."""
        return np.repeat(self._grey(view, size)[..., None], 3, -1)

    def overlay(self, view: View, size: tuple[int, int]) -> Pixels:
        """The map over the image; striped grey where the map is NaN."""
        if self.scale is None:
            return self.film(view, size)
        values = view.cut(self.values)
        outside = _resize(np.isnan(values).astype(np.float32), size, smooth=False) > 0.5
        shown = self.scale.over(self._grey(view, size), _resize(np.nan_to_num(values), size))
        return np.where(outside[..., None], veiled(self.film(view, size)), shown)

    def region(self, view: View, size: tuple[int, int]) -> Pixels | None:
        """The mask's share of each pixel; None where the plane holds none of it."""
        if self.mask is None:
            return None
        plane = view.cut(self.mask).astype(np.float32)
        return _resize(np.pad(plane, 1), size, margin=1) if plane.any() else None

    def _grey(self, view: View, size: tuple[int, int]) -> Pixels:
        low, high = self.window
        plane = np.nan_to_num(view.cut(self.image).astype(np.float32), nan=low, posinf=high, neginf=low)
        return np.clip(_resize(np.clip((plane - low) / (high - low), 0, 1), size), 0, 1)


def veiled(pixels: Pixels) -> Pixels:
    """Dimmed, with diagonal grey stripes."""
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    stripe = ((rows + columns) % _STRIPE < 2)[..., None]
    return np.where(stripe, np.float32(VEIL), pixels * np.float32(0.55))


def mask_on(mask: Annotation, grid: Geometry) -> NDArray[np.bool_]:
    """The mask at every voxel of `grid`, for the eye: as it is on its own grid, else half a voxel's share or more."""
    if mask.geometry.same(grid):
        return np.asarray((mask.data >= 0.5).numpy().reshape(grid.shape3))
    share = read_on(mask.data.float(), mask.geometry, grid) >= 0.5
    return np.asarray((share & inside(mask.geometry, grid)).numpy().reshape(grid.shape3))


def _resize(plane: Any, size: tuple[int, int], *, smooth: bool = True, margin: int = 0) -> Pixels:
    """Linear (area-weighted where it shrinks), or nearest; `margin` voxels at each border are read but not shown."""
    from PIL import Image

    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    height, width = plane.shape
    box = (margin, margin, width - margin, height - margin)
    source = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(source.resize(size, how, box=box), np.float32)
