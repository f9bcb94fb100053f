"""The protocol of CheXlocalize (Saporta et al. 2022), pixel for pixel, without its box filter.

A map is enlarged to the film bilinearly and brought to [0, 1] by its least and largest value. By default Otsu's
threshold of its 256 grey levels makes the region, of which holes are filled and single pixels are dropped, because the
published code draws the region again from its contours; with a threshold t the region is every value above t.
"""

from collections.abc import Mapping, Sequence
from math import isnan
from types import MappingProxyType

import numpy as np
import torch
from scipy import ndimage

from medxai.errors import MaskError
from medxai.metrics.places import Voxels, region, touching
from medxai.metrics.reading import Reading
from medxai.metrics.spec import MetricSpec, Undefined
from medxai.shapes import LayerMap, Map, MaskArray

THRESHOLDS: Mapping[str, float] = MappingProxyType(
    {
        "Airspace Opacity": 0.4,
        "Atelectasis": 0.4,
        "Cardiomegaly": 0.2,
        "Consolidation": 0.4,
        "Edema": 0.4,
        "Enlarged Cardiomediastinum": 0.2,
        "Lung Lesion": 0.7,
        "Pleural Effusion": 0.6,
        "Pneumothorax": 0.6,
        "Support Devices": 0.4,
    }
)
"""The findings, and the threshold that the authors tuned for each on their validation films."""

CANDIDATES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Thresholds among which the authors tuned."""


def enlarged(values: LayerMap, shape: Sequence[int]) -> Map:
    """The map on the film's pixels: bilinear, pixel edges aligned. A constant map stays one, to the last bit."""
    least, most = values.aminmax()
    if least == most:
        return values.new_full(tuple(shape), float(least))
    whole = torch.nn.functional.interpolate(values[None, None], tuple(shape), mode="bilinear", align_corners=False)
    return whole[0, 0]


def otsu_region(values: Map) -> MaskArray:
    """The published region of an enlarged map: above Otsu's threshold, holes filled, single pixels dropped.

    A constant map has no region. What the model never saw (NaN) is in none and no part of Otsu's two classes.
    """
    from skimage.filters import threshold_otsu

    seen = ~values.isnan()
    scaled = _scaled(values)
    if scaled is None:
        return torch.zeros(values.shape, dtype=torch.bool)
    grey = (255 * scaled).numpy().astype(np.uint8)
    return torch.from_numpy(_redrawn(grey > threshold_otsu(grey[seen.numpy()]))) & seen


def region_above(values: Map, threshold: float) -> MaskArray:
    """The region of an enlarged map above a threshold in [0, 1]. A constant map has none."""
    scaled = _scaled(values)
    if scaled is None:
        return torch.zeros(values.shape, dtype=torch.bool)
    return scaled.to(torch.float64) > threshold


def iou(region: MaskArray, mask: MaskArray, found_only: bool = True) -> float:
    """Intersection over union; undefined where either is empty or, with found_only=False, where both are."""
    both, either = int((region & mask).count_nonzero()), int((region | mask).count_nonzero())
    if not either:
        return Undefined("neither map nor annotation has a region")
    if found_only and not bool(mask.any()):
        return Undefined("empty mask")
    if found_only and not bool(region.any()):
        return Undefined("no region in the map")
    return both / either


def hit(values: Map, mask: MaskArray, published: bool = False) -> float:
    """1 where the first maximum in reading order lies in the mask, else 0; undefined for an empty mask.

    Undefined for a constant map too, which points nowhere; `published` counts its first pixel, as the authors do.
    """
    if not bool(mask.any()):
        return Undefined("empty mask")
    if not published and bool(values.min() == values.max()):
        return Undefined("constant map")
    return float(mask.flatten()[values.argmax()])


def human_hit(points: Sequence[tuple[float, float]], mask: MaskArray) -> float:
    """1 where any of a reader's points (x, y) lies in the mask, else 0; a reader without a point misses.

    Raises MaskError for a point beside the film.
    """
    rows, columns = mask.shape
    beside = [point for point in points if not (0 <= point[0] < columns and 0 <= point[1] < rows)]
    if beside:
        raise MaskError(
            "A point lies beside its film.", expected=f"within {columns} x {rows} pixels", found=f"{beside[0]}"
        )
    if not bool(mask.any()):
        return Undefined("empty mask")
    return float(any(bool(mask[int(y), int(x)]) for x, y in points))


def overlaps(values: Map, mask: MaskArray) -> tuple[float, ...]:
    """The IoU of an enlarged map at each of the `CANDIDATES`."""
    return tuple(iou(region_above(values, threshold), mask) for threshold in CANDIDATES)


def best_threshold(rows: Sequence[Sequence[float]]) -> float:
    """The first of the `CANDIDATES` with the largest mean, over films, of their `overlaps` that are defined."""
    means = [_mean(column) for column in zip(*rows, strict=True)]
    if all(isnan(mean) for mean in means):
        return Undefined("no film has both a region and an annotation")
    return CANDIDATES[int(np.nanargmax(means))]


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def _scaled(values: Map) -> Map | None:
    least = torch.where(values.isnan(), torch.inf, values).min()
    raised = values.nan_to_num(nan=float(least)) - least
    top = raised.max()
    return raised / top if float(top) > 0 else None


def _redrawn(region: Voxels) -> Voxels:
    """As from the outer contours of its parts, which touch at edges or corners; a part of one pixel has no contour."""
    parts, number = ndimage.label(region, touching(region.ndim))
    single = np.bincount(parts.ravel(), minlength=number + 1) == 1
    single[0] = False
    width = [int(n > 1) for n in region.shape]  # a slice one voxel deep is a film
    beside, number = ndimage.label(np.pad(~region | single[parts], [(w, w) for w in width], constant_values=True))
    within = tuple(slice(w, n + w) for w, n in zip(width, region.shape, strict=True))
    return np.asarray(beside[within] != beside.flat[0])


def chexlocalize_hit(reading: Reading) -> float:
    """1 where the first maximum in reading order lies in the mask, else 0: the hit rate of CheXlocalize."""
    if reading.undefined:
        return Undefined(reading.undefined)
    return hit(reading.values.nan_to_num(nan=float(reading.ranking.values[0])), _whole(reading))


def chexlocalize_iou(reading: Reading) -> float:
    """Intersection over union with the published region of CheXlocalize: Otsu's, its holes filled."""
    if reading.undefined:
        return Undefined(reading.undefined)
    return iou(otsu_region(reading.values), _whole(reading))


def _whole(reading: Reading) -> MaskArray:
    return torch.from_numpy(region(reading))


METRICS = tuple(
    MetricSpec(fn, "mask", best=1.0, span=(0.0, 1.0), claims=("exact", "inverted"), ties="first")
    for fn in (chexlocalize_hit, chexlocalize_iou)
)
