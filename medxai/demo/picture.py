"""The picture of several maps of one case: a row for each lesion, and in it the image and each map side by side."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from medxai.core.geometry import Geometry
from medxai.core.saliency import Saliency
from medxai.core.volume import Mask, Volume
from medxai.metrics.places import components, touching
from medxai.render.overlay import Scene, mask_on
from medxai.render.palette import FAINT, INK, scale_of, window_of
from medxai.render.panel import Panel, draw_legend, draw_panel
from medxai.render.sheet import Box, Sheet
from medxai.render.slices import View, sparsest_axis, view

_WIDTH, _MARGIN, _GAP, _HEAD, _FOOT = 290, 22, 8, 52, 40


def side_by_side(image: Volume, maps: Mapping[str, Saliency], mask: Mask) -> bytes:
    """A PNG of the slice through the middle of each lesion, bare and under each map, from 0 to that map's maximum.

    A degenerate map is named, never drawn.
    """
    bare = _scene(image, mask, None)
    columns = {"image": bare, **{name: _scene(image, mask, saliency) for name, saliency in maps.items()}}
    views = _through_lesions(mask_on(mask, image.geometry), image.geometry)
    height = round(_WIDTH * views[0].size[1] / views[0].size[0])
    bottom = _HEAD + len(views) * (height + _GAP)
    sheet = Sheet(2 * _MARGIN + len(columns) * (_WIDTH + _GAP) - _GAP, bottom + _FOOT)
    for number, (name, scene) in enumerate(columns.items()):
        left = _MARGIN + number * (_WIDTH + _GAP)
        sheet.text((left, 12), name, 11, INK)
        sheet.text((left, 32), _range(scene, maps.get(name)), 8.5, FAINT)
        for row, one in enumerate(views):
            draw_panel(sheet, scene, Panel(one, mapped=True), Box(left, _HEAD + row * (height + _GAP), _WIDTH, height))
    draw_legend(sheet, bare, _MARGIN, bottom + 10)
    return sheet.png()


def _scene(image: Volume, mask: Mask, saliency: Saliency | None) -> Scene:
    grid = image.geometry
    voxels = image.data[0].numpy().reshape(grid.shape3)
    values = np.zeros(grid.shape3, np.float32)
    if saliency is not None and saliency.status.ok:
        values = saliency.on(grid).numpy().reshape(grid.shape3)
    return Scene(grid, voxels, window_of(voxels), values, mask_on(mask, grid), scale_of(values))


def _range(scene: Scene, saliency: Saliency | None) -> str:
    if scene.scale is None:
        return "" if saliency is None else str(saliency.status)
    unit = f" {saliency.amount} per mm³" if saliency and saliency.amount else ""
    return f"{scene.scale.low:.3g} to {scene.scale.limit:.3g}{unit}"


def _through_lesions(mask: NDArray[np.bool_], grid: Geometry) -> list[View]:
    """The slice through the middle of each lesion, in the order of the slices."""
    axis = sparsest_axis(grid)
    parts, number = components(mask, touching(3))
    middles = sorted(round(float(np.argwhere(parts == n + 1)[:, axis].mean())) for n in range(number))
    return [view(grid, axis, middle) for middle in middles]
