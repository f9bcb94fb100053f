"""The picture of a saliency: planes through its peak with and without the map, and slices over its whole extent."""

from dataclasses import dataclass
from math import isfinite

import numpy as np

from medxai.core.annotation import Annotation
from medxai.core.geometry import Geometry
from medxai.core.saliency import Saliency
from medxai.core.volume import Volume
from medxai.render.overlay import Scene, mask_on
from medxai.render.palette import FAINT, INK, Values, scale_of, window_of
from medxai.render.panel import Panel, draw_bar, draw_legend, draw_panel
from medxai.render.sheet import Box, Sheet
from medxai.render.slices import placed, planes_through, sparsest_axis, strip
from medxai.shapes import Map

_SHOWN = 0.2
_WIDTH, _ROW, _STRIP, _FILM = 1160, 460, 230, 760
_MARGIN, _GAP, _HEAD, _FOOT, _BAR, _MINIMUM = 22, 8, 68, 44, 128, 760


@dataclass(frozen=True)
class _Row:
    panels: tuple[Panel, ...]
    height: int


def montage(
    image: Volume, saliency: Saliency, mask: Annotation | None = None, *, title: str = "", values: Map | None = None
) -> bytes:
    """A PNG of the map on the image's own grid, as radiologists hang it; the same values give the same bytes.

    A plane through the map's peak is shown bare and with the map; a volume in all three voxel planes, and in up to
    seven slices across the sparsest axis, from where map (above a fifth of its peak) or mask begins to where both end.
    Aspect is true; letters name the patient directions where the grid knows them. The colour bar carries raw values.
    Stripes mark what the model never saw. A degenerate map is named, never drawn. The file holds pixels and no text.
    `values` is the map on the image's grid, where it was read already.
    """
    read = saliency.on(image.geometry) if values is None else values
    scene, trouble = _scene(image, saliency, mask, read.numpy().reshape(image.geometry.shape3))
    placed_rows = _lay_out(_rows(scene, _peak(scene)))
    boxes = [box for row in placed_rows for _, box in row]
    right = max(box.left + box.width for box in boxes)
    bottom = max(box.top + box.height for box in boxes)
    sheet = Sheet(max(_MINIMUM, right + (_BAR if scene.scale else _MARGIN)), bottom + _FOOT)
    for row in placed_rows:
        for panel, box in row:
            draw_panel(sheet, scene, panel, box)
    sheet.text((_MARGIN, 14), title or _headline(saliency), 12, INK)
    if trouble:
        sheet.notice((_MARGIN + 5, 48), trouble)
    else:
        sheet.text((_MARGIN, 40), _caption(image, saliency), 8.5, FAINT)
    draw_legend(sheet, scene, _MARGIN, bottom + 16)
    if scene.scale is not None:
        first = boxes[0]
        draw_bar(sheet, scene.scale, Box(right + 24, first.top + 20, 16, max(120, first.height - 40)))
    return sheet.png()


def _scene(image: Volume, saliency: Saliency, mask: Annotation | None, values: Values) -> tuple[Scene, str]:
    grid = image.geometry
    scale = scale_of(values) if saliency.status.ok else None
    trouble = "" if scale else f"{saliency.status}, no map to show"
    if scale is None and saliency.status.ok:
        unseen = bool(np.isnan(values).all())
        trouble = "the model saw none of this image" if unseen else "the map is zero everywhere: nothing to show"
    voxels = image.data[0].numpy().reshape(grid.shape3)
    region = None if mask is None else mask_on(mask, grid)
    return Scene(grid, voxels, window_of(voxels), values, region, scale), trouble


def _peak(scene: Scene) -> tuple[int, ...]:
    """The voxel of the strongest value; without a map the mask's middle, else the image's."""
    if scene.scale is not None:
        return _voxel(int(np.nanargmax(np.abs(scene.values))), scene.grid)
    if scene.mask is not None and scene.mask.any():
        return tuple(round(float(v)) for v in np.argwhere(scene.mask).mean(0))
    return tuple(n // 2 for n in scene.grid.shape3)


def _voxel(flat: int, grid: Geometry) -> tuple[int, ...]:
    return tuple(int(n) for n in np.unravel_index(flat, grid.shape3))


def _rows(scene: Scene, peak: tuple[int, ...]) -> list[_Row]:
    planes = planes_through(scene.grid, peak)
    mark = peak if scene.scale is not None else None
    bare = tuple(Panel(plane, mapped=False, peak=mark) for plane in planes)
    mapped = tuple(Panel(plane, mapped=True, peak=mark) for plane in planes) if mark else ()
    if len(planes) == 1:
        return [_Row((*bare, *mapped), _FILM)]
    axis = sparsest_axis(scene.grid)
    spans = _spans(scene, axis)
    through = tuple(Panel(v, mapped=True) for v in strip(scene.grid, spans, axis)) if spans else ()
    return [row for row in (_Row(bare, _ROW), _Row(mapped, _ROW), _Row(through, _STRIP)) if row.panels]


def _lay_out(rows: list[_Row]) -> list[list[tuple[Panel, Box]]]:
    """Each row at one scale for all its panels, as large as its height and the page's width allow."""
    top, placed_rows = _HEAD, []
    for row in rows:
        columns = _columns(row.panels)
        widths = [max(panel.view.size[0] for panel in column) for column in columns]
        heights = [sum(panel.view.size[1] for panel in column) for column in columns]
        scale = min((_WIDTH - _GAP * (len(columns) - 1)) / sum(widths), row.height / max(heights))
        left, boxes = _MARGIN, []
        for column, width in zip(columns, widths, strict=True):
            down = top
            for panel in column:
                box = Box(left, down, *(max(8, round(length * scale)) for length in panel.view.size))
                boxes.append((panel, box))
                down += box.height + _GAP
            left += round(width * scale) + _GAP
        placed_rows.append(boxes)
        top = max(box.top + box.height for _, box in boxes) + _GAP
    return placed_rows


def _columns(panels: tuple[Panel, ...]) -> list[list[Panel]]:
    """Panels side by side, low ones (the long planes of a thin slab) below each other beside the tallest."""
    tallest = max(panel.view.size[1] for panel in panels)
    columns: list[list[Panel]] = []
    for panel in panels:
        room = tallest - sum(other.view.size[1] for other in columns[-1]) if columns else 0.0
        if panel.view.size[1] < 0.9 * room:
            columns[-1].append(panel)
        else:
            columns.append([panel])
    return columns


def _spans(scene: Scene, axis: int) -> list[tuple[int, int]]:
    regions: list[Values] = [] if scene.mask is None else [scene.mask]
    if scene.scale is not None:
        regions.append(np.abs(np.nan_to_num(scene.values)) >= _SHOWN * scene.scale.limit)
    others = tuple(a for a in range(3) if a != axis)
    held = [np.flatnonzero(region.any(axis=others)) for region in regions]
    return [(int(found[0]), int(found[-1])) for found in held if found.size]


def _headline(saliency: Saliency) -> str:
    known = saliency.provenance
    layer = f" at {known.layer}" if known.layer else ""
    score = f"score {known.score:.4g}" if isfinite(known.score) else ""
    return "   ".join(part for part in (known.method + layer, known.target, score) if part)


def _caption(image: Volume, saliency: Saliency) -> str:
    parts = []
    if image.data.shape[0] > 1:
        parts.append(f"image: channel 1 of {image.data.shape[0]}")
    cells = " x ".join(map(str, saliency.data.shape))
    steps = " x ".join(f"{v:.3g}" for v in saliency.geometry.spacing)
    unit = "mm" if saliency.geometry.units == "mm" else "pixels"
    if saliency.status.ok:
        parts.append(f"map: {cells} cells of {steps} {unit}, read linearly")
    if not placed(image.geometry):
        parts.append("the file does not say how the patient lies")
    return "    ".join(parts)
