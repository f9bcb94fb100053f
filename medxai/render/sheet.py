"""A sheet measured in pixels from its top left corner, on matplotlib's own canvas: no windows, no global state."""

import io
from typing import Any, NamedTuple

import numpy as np

from medxai.render.palette import INK, PAPER, Pixels

_DPI = 100
_FONT = "DejaVu Sans"


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int


class Sheet:
    """A dark page of fixed size that takes pixels and words, and becomes a PNG without metadata."""

    def __init__(self, width: int, height: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=PAPER)
        self._canvas: Any = FigureCanvasAgg(self.figure)

    def picture(self, box: Box, pixels: Pixels) -> Any:
        """Show pixels one to one; returns the axes, whose coordinates are pixels from the box's top left corner."""
        left, bottom = box.left / self.width, 1 - (box.top + box.height) / self.height
        axes = self.figure.add_axes((left, bottom, box.width / self.width, box.height / self.height))
        axes.set_axis_off()
        axes.imshow(np.clip(pixels, 0, 1), extent=(0, box.width, box.height, 0), interpolation="nearest", aspect="auto")
        axes.set_xlim(0, box.width)
        axes.set_ylim(box.height, 0)
        return axes

    def text(
        self, place: tuple[float, float], words: str, size: float = 9, colour: str = INK, align: str = "lt"
    ) -> Any:
        """Words at a place in pixels; `align` is l, c or r and t, m or b."""
        across = {"l": "left", "c": "center", "r": "right"}[align[0]]
        down = {"t": "top", "m": "center", "b": "bottom"}[align[1]]
        return self.figure.text(
            place[0] / self.width,
            1 - place[1] / self.height,
            words,
            fontsize=size,
            color=colour,
            ha=across,
            va=down,
            family=_FONT,
            parse_math=False,
        )

    def notice(self, place: tuple[float, float], words: str) -> None:
        """Words that must not be overlooked: dark on a light plate."""
        plate = {"boxstyle": "square,pad=0.4", "facecolor": INK, "edgecolor": INK}
        self.text(place, words, 10.5, PAPER, "lm").set(bbox=plate, fontweight="bold")

    def png(self) -> bytes:
        """The sheet as PNG: pixels, and not one word of metadata."""
        from PIL import Image

        self._canvas.draw()
        pixels = np.asarray(self._canvas.buffer_rgba())[..., :3]
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
        return buffer.getvalue()


def outlined(width: float = 2.2) -> list[Any]:
    """A dark rim that keeps words legible on any picture."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="#000000")]
