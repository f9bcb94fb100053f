"""What is drawn on a sheet: one plane with its letters, the colour bar, the legend."""

from dataclasses import dataclass

import numpy as np

from medxai.render.overlay import Scene, veiled
from medxai.render.palette import CONTOUR, EDGE, FAINT, INK, PAPER, PEAK, Pixels, Scale
from medxai.render.sheet import Box, Sheet, outlined
from medxai.render.slices import View

_BAR_GREY = 0.35
_SMALL = 220
_TICK = 10
_LOW = 40


@dataclass(frozen=True)
class Panel:
    """A view with or without the map; ticks on its border point at `peak` where it is given."""

    view: View
    mapped: bool
    peak: tuple[int, ...] | None = None


def draw_panel(sheet: Sheet, scene: Scene, panel: Panel, box: Box) -> None:
    """The plane, its annotation's contour, the patient directions at its borders, its place in the volume."""
    size = (box.width, box.height)
    pixels = scene.overlay(panel.view, size) if panel.mapped else scene.film(panel.view, size)
    axes = sheet.picture(box, pixels)
    region = scene.region(panel.view, size)
    if region is not None and region.min() < 0.5 <= region.max():
        across, down = np.arange(box.width) + 0.5, np.arange(box.height) + 0.5
        for colour, width in ((EDGE, 2.6), (CONTOUR, 1.3)):
            axes.contour(across, down, region, levels=[0.5], colors=[colour], linewidths=[width])
    _letters(sheet, panel.view, box)
    _name(sheet, scene, panel.view, box)
    if panel.peak is not None:
        _ticks(sheet, scene, panel, box)


def draw_bar(sheet: Sheet, scale: Scale, box: Box) -> None:
    """The colour bar as the colours look over mid grey, with raw numbers."""
    values = np.linspace(scale.limit, scale.low, box.height)[:, None]
    grey = np.full(values.shape, _BAR_GREY, np.float32)
    sheet.picture(box, np.repeat(scale.over(grey, values), box.width, 1))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        number = scale.limit + share * (scale.low - scale.limit)
        where = (box.left + box.width + 7, box.top + share * box.height)
        sheet.text(where, f"{number:.3g}", 8.5, INK, "lm")
    sheet.text((box.left, box.top - 14), "map, raw", 8.5, FAINT, "lb")


def draw_legend(sheet: Sheet, scene: Scene, left: int, top: int) -> None:
    """What contour, stripes and grey stand for; only what the picture holds."""
    low, high = scene.window
    entries: list[tuple[str, Pixels | None]] = [(f"grey {low:.4g} (black) to {high:.4g} (white)", None)]
    swatch = np.full((11, 22, 3), _BAR_GREY, np.float32)
    if scene.mask is not None and scene.mask.any():
        entries.append(("annotation", _framed(swatch)))
    if scene.scale is not None:
        entries.append(("peak of the map", _arrow()))
    if scene.scale is not None and np.isnan(scene.values).any():
        entries.append(("outside what the model saw: no value", veiled(np.full((11, 22, 3), 0.6, np.float32))))
    for words, sample in entries:
        if sample is not None:
            sheet.picture(Box(left, top, 22, 11), sample)
            left += 29
        sheet.text((left, top + 5), words, 8.5, FAINT, "lm")
        left += round(6.6 * len(words)) + 26


def _framed(swatch: Pixels) -> Pixels:
    from matplotlib.colors import to_rgb

    framed = swatch.copy()
    framed[:] = to_rgb(CONTOUR)
    framed[2:-2, 2:-2] = _BAR_GREY
    return framed


def _arrow() -> Pixels:
    from matplotlib.colors import to_rgb

    rows, columns = np.ogrid[:11, :22]
    inside = np.abs(columns - 10.5) <= rows / 2
    return np.where(inside[..., None], np.array(to_rgb(PEAK)), np.array(to_rgb(PAPER))).astype(np.float32)


def _letters(sheet: Sheet, view: View, box: Box) -> None:
    middle = (box.left + box.width / 2, box.top + box.height * (0.5 if box.height >= _LOW else 0.72))
    left, right, top, bottom = view.letters
    size = 10.5 if min(box.width, box.height) > _SMALL else 7.5
    places = (
        ((box.left + 5, middle[1]), left, "lm"),
        ((box.left + box.width - _TICK - 4, middle[1]), right, "rm"),
        ((middle[0], box.top + 4), top, "ct"),
        ((middle[0], box.top + box.height - _TICK - 3), bottom, "cb"),
    )
    for place, letter, align in places if box.height >= _LOW else places[:2]:
        if letter:
            sheet.text(place, letter, size, INK, align).set_path_effects(outlined())


def _name(sheet: Sheet, scene: Scene, view: View, box: Box) -> None:
    planes = scene.grid.shape3[view.axis]
    if planes == 1:
        return
    large = min(box.width, box.height) > _SMALL
    words = f"{view.name} {'ijk'[view.axis]} = {view.index}" if large else f"{'ijk'[view.axis]} = {view.index}"
    place = (box.left + 5, box.top + 4)
    sheet.text(place, words.strip(), 8.5 if large else 7.5, INK, "lt").set_path_effects(outlined())


def _ticks(sheet: Sheet, scene: Scene, panel: Panel, box: Box) -> None:
    from matplotlib.patches import Polygon

    across, down = panel.view.place(panel.peak or (), scene.grid.shape3)
    x, y = box.left + across * box.width, box.top + down * box.height
    right, bottom = box.left + box.width, box.top + box.height
    for corners in (
        ((x, bottom - _TICK), (x - _TICK / 2, bottom), (x + _TICK / 2, bottom)),
        ((right - _TICK, y), (right, y - _TICK / 2), (right, y + _TICK / 2)),
    ):
        shares = [(u / sheet.width, 1 - v / sheet.height) for u, v in corners]
        sheet.figure.add_artist(Polygon(shares, closed=True, facecolor=PEAK, edgecolor=PAPER, linewidth=0.8))
