"""How alike two maps are, in any number of axes; NaN with a reason where a map says nothing."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor
from torch.nn import functional

from medxai.errors import InputError
from medxai.metrics.spec import Undefined
from medxai.shapes import Map, Maps

Spread = Float[Tensor, "b *s"]
Similarity = Callable[[Map, Map], float]
_WINDOW = 7
_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def spearman(first: Map, second: Map) -> float:
    """Rank correlation over all voxels, ties at their mean rank: blind to scale, offset and contrast."""
    return _silence(first, second) or float(stats.spearmanr(_flat(first), _flat(second)).statistic)


def pearson(first: Map, second: Map) -> float:
    """Correlation over all voxels."""
    return _silence(first, second) or float(np.corrcoef(_flat(first), _flat(second))[0, 1])


def ssim(first: Map, second: Map) -> float:
    """Structural similarity over windows of 7 voxels along every axis (Wang et al. 2004), true 2D or 3D.

    Each map is divided by its largest magnitude, so that a map is alike to its multiples and zero stays zero; the data
    range is that of `first`. Axes shorter than 7 narrow the window to their odd length; axes of one voxel are none.
    """
    from skimage.metrics import structural_similarity

    wrong = _silence(first, second)
    if wrong:
        return wrong
    a, b = (m.squeeze().double().cpu().numpy() for m in (first, second))
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    side = min(_WINDOW, *a.shape)
    side -= 1 - side % 2
    if side < 3:
        return Undefined("a map of fewer than three voxels along an axis has no windows")
    return float(structural_similarity(a, b, win_size=side, data_range=float(a.max() - a.min())))


SIMILARITIES: dict[str, Similarity] = {"ssim": ssim, "spearman": spearman, "pearson": pearson}


def on_grid(maps: Maps, size: Sequence[int]) -> Spread:
    """Maps of a layer spread over the whole image, linearly: where two of one layer are compared, not placed."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    mode = _MODES[maps.ndim - 1]
    spread: Spread = functional.interpolate(maps[:, None].float(), tuple(size), mode=mode, align_corners=False)[:, 0]
    return spread


def random_pairs(maps: Maps, alike: Similarity, pairs: int = 50, seed: int = 0) -> list[float]:
    """The similarity of `pairs` random pairs of different images' maps: what two unrelated maps score (Arun 2021).

    Where there are fewer pairs than asked for, each is taken once; undefined pairs are left out. Raises InputError for
    fewer than two maps.
    """
    if len(maps) < 2:
        raise InputError("Pairs need two maps.", found=f"{len(maps)}", remedy="Give a batch of images.")
    every = torch.combinations(torch.arange(len(maps)))
    drawn = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))[:pairs]]
    found = [alike(maps[int(i)], maps[int(j)]) for i, j in drawn]
    return [value for value in found if not np.isnan(value)]


def _flat(values: Map) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return values.detach().double().cpu().numpy().ravel()


def _silence(first: Map, second: Map) -> Undefined | None:
    for one in (first, second):
        if not bool(one.isfinite().all()):
            return Undefined("a map is not finite")
        if bool((one == one.flatten()[0]).all()):
            return Undefined("a map is constant")
    return None
