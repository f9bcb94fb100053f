"""The power ladder: on planted evidence every metric ranks the maps that it claims to, in that order, on average."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage

from medxai import catalog
from medxai.core.geometry import Geometry
from medxai.metrics.reading import Reading
from medxai.metrics.spec import RUNGS

METRICS = sorted((m for m in catalog.metrics().values() if m.needs == "mask"), key=lambda m: m.name)
STEP = 2.0
CASES = 24


def planted(seed, ndim):
    """A finding of one or two balls of 10 to 14 mm radius at random in a field of 2 mm voxels, and a map per rung."""
    rng = np.random.default_rng(seed)
    size = {2: (64, 60), 3: (40, 36, 32)}[ndim]
    places = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    mask = np.zeros(size, bool)
    for _ in range(rng.integers(1, 3)):
        middle = [rng.uniform(8, n - 8) for n in size]
        mask |= ((places - middle) ** 2).sum(-1) < (rng.uniform(10, 14) / STEP) ** 2
    exact = mask.astype(np.float32)
    away = rng.standard_normal(ndim)
    shift = (10 / STEP) * away / np.linalg.norm(away)
    maps = {
        "exact": exact,
        "blurred": ndimage.gaussian_filter(exact, 4 / STEP),
        "shifted": ndimage.shift(ndimage.gaussian_filter(exact, 4 / STEP), shift, order=1, mode="nearest"),
        "random": rng.random(size, np.float32),
        "inverted": 1 - ndimage.gaussian_filter(exact, 4 / STEP),
    }
    grid = Geometry(np.diag([STEP, STEP, STEP, 1.0]), size)
    return {name: Reading(torch.from_numpy(values), torch.from_numpy(mask), grid) for name, values in maps.items()}


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def ladder(request):
    return [planted(seed, request.param) for seed in range(CASES)]


def means(metric, ladder):
    return {rung: float(np.mean([metric.fn(case[rung]) for case in ladder])) for rung in RUNGS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_the_claimed_order_is_kept(metric, ladder):
    assert set(metric.claims) <= set(RUNGS)
    assert list(metric.claims) == sorted(metric.claims, key=RUNGS.index)
    found = means(metric, ladder)
    order = [found[rung] for rung in metric.claims]
    if metric.better == "lower":
        order = [-value for value in order]
    assert all(better > worse for better, worse in pairwise(order)), found
