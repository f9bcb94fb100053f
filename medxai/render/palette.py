"""From numbers to colours: a grey window for the image, an ordered colour scale for the map."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
Pixels = NDArray[np.float32]

CONTOUR, EDGE, PEAK = "#41ff9f", "#06180f", "#ffffff"
PAPER, INK, FAINT, VEIL = "#0c0c0c", "#ececec", "#a6a6a6", 0.42
_COVER = 0.78
_WINDOW_PERCENT = (1.0, 99.0)
_WINDOW_SAMPLES = 1_000_000
_BACKGROUND = 0.2


@dataclass(frozen=True)
class Scale:
    """A colour and an opacity for every map value: from 0 to `limit`, or from -limit to limit where `signed`."""

    limit: float
    signed: bool

    @property
    def low(self) -> float:
        return -self.limit if self.signed else 0.0

    def colours(self, values: Values) -> Pixels:
        """Red, green, blue (0 to 1) of each value; perceptually ordered, diverging around 0 where signed."""
        from matplotlib import colormaps

        share = np.clip((np.nan_to_num(values) - self.low) / (self.limit - self.low), 0, 1)
        table = colormaps["RdBu_r" if self.signed else "inferno"]
        where = 0.06 + 0.88 * share if self.signed else 0.22 + 0.72 * share
        return np.asarray(table(where)[..., :3], np.float32)

    def cover(self, values: Values) -> Pixels:
        """How much of the image each value hides: nothing at 0, most at the limit, NaN nothing."""
        share = np.clip(np.abs(np.nan_to_num(values)) / self.limit, 0, 1)
        return np.asarray(_COVER * share**0.85, np.float32)

    def over(self, grey: Pixels, values: Values) -> Pixels:
        """The map laid over a grey image (0 to 1), as red, green, blue."""
        cover = self.cover(values)[..., None]
        return (1 - cover) * grey[..., None] + cover * self.colours(values)


def scale_of(values: Values) -> Scale | None:
    """The scale that spans the finite values; None where they are all zero or there are none."""
    finite = values[np.isfinite(values)]
    limit = float(np.abs(finite).max()) if finite.size else 0.0
    return Scale(limit, bool((finite < 0).any())) if limit > 0 else None


def window_of(image: Values) -> tuple[float, float]:
    """The grey window: percentiles 1 to 99 of the image, without the one value that fills its background.

    A value is background where a fifth of the voxels or more hold it. Where all is one value the window is one wide.
    """
    flat = image.reshape(-1)[:: max(1, image.size // _WINDOW_SAMPLES)].astype(np.float64)
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return 0.0, 1.0
    found, counts = np.unique(flat, return_counts=True)
    most = int(counts.argmax())
    if counts[most] >= _BACKGROUND * flat.size and len(found) > 2:
        flat = flat[flat != found[most]]
    low, high = (float(v) for v in np.percentile(flat, _WINDOW_PERCENT))
    if high <= low:
        low, high = float(found[0]), float(found[-1])
    return (low, high) if high > low else (low, low + 1.0)
