"""Clustering: distances against differences, quantile against a full sort, DBSCAN against scikit-learn and plainly."""

import numpy as np
import pytest
import torch

from medxai.attribution.clusters import NOISE, _around, dbscan, quantile, squared_distances

DRAW = np.random.default_rng(0)
LATTICE = 0.1 * np.stack(np.meshgrid(range(1, 13), range(1, 13)), -1).reshape(-1, 2)
FAMILIES = (4 * DRAW.normal(size=(6, 5)))[DRAW.integers(0, 6, 150)] + 0.3 * DRAW.normal(size=(150, 5))
POINTS = {
    "random": DRAW.normal(size=(120, 7)),
    "families": FAMILIES,
    "repeated": DRAW.normal(size=(30, 4))[DRAW.integers(0, 30, 120)],
    "mostly dead": DRAW.normal(size=(100, 5)) * (DRAW.random((100, 1)) < 0.3),
    "equal": np.full((40, 3), 0.7),
    "lattice": LATTICE,
    "two": DRAW.normal(size=(2, 3)),
    "three": DRAW.normal(size=(3, 3)),
}
KINDS = pytest.mark.parametrize("kind", ["euclidean", "cosine"])
SHARES = (0.0, 0.003, 0.1, 0.25, 0.5, 0.9, 1.0)


def apart_plainly(points, kind):
    """Distances by differences; the cosine to a point at the origin is 0."""
    if kind == "euclidean":
        return np.linalg.norm(points[:, None] - points[None], axis=2)
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    unit = np.divide(points, norms, out=np.zeros_like(points), where=norms > 0)
    apart = 1 - (unit[:, None] * unit[None]).sum(2)
    np.fill_diagonal(apart, 0)
    return apart


def quantile_plainly(apart, share):
    """All of them sorted, each twice."""
    ranked = np.repeat(np.sort(apart[np.tril_indices(len(apart), -1)]), 2)
    place = (len(ranked) - 1) * share
    low, high = ranked[int(place)], ranked[min(int(place) + 1, len(ranked) - 1)]
    return low + (high - low) * (place - int(place))


def dbscan_plainly(apart, reach, least):
    """First the cores and who shares a cluster with whom, then the points around them."""
    near = [set(np.flatnonzero(row <= reach * (1 + 1e-9))) for row in apart]
    cores = [i for i, around in enumerate(near) if len(around) >= least]
    labels, count = dict.fromkeys(range(len(apart)), NOISE), 0
    for core in cores:
        waiting = {core} if labels[core] == NOISE else set()
        count += len(waiting)
        while waiting:
            one = waiting.pop()
            labels[one] = count - 1
            waiting |= {i for i in near[one] & set(cores) if labels[i] == NOISE}
    for loose in set(labels) - set(cores):
        labels[loose] = min((labels[i] for i in near[loose] & set(cores)), default=NOISE)
    return list(labels.values())


@KINDS
@pytest.mark.parametrize("name", POINTS)
def test_distances_equal_those_of_differences(name, kind):
    squares = squared_distances(torch.from_numpy(POINTS[name]), kind)
    np.testing.assert_allclose(np.sqrt(squares), apart_plainly(POINTS[name], kind), rtol=1e-9, atol=2e-7)
    assert not squares.diagonal().any()


@KINDS
@pytest.mark.parametrize("name", POINTS)
def test_the_quantile_is_that_of_all_distances_sorted_to_the_last_bit(name, kind):
    squares = squared_distances(torch.from_numpy(POINTS[name]), kind)
    for share in SHARES:
        assert quantile(squares, share) == quantile_plainly(np.sqrt(squares), share)


@pytest.mark.parametrize("least", [2, 5, 20])
@KINDS
@pytest.mark.parametrize("name", POINTS)
def test_clusters_equal_those_of_the_plain_search_over_differences(name, kind, least):
    squares, apart = squared_distances(torch.from_numpy(POINTS[name]), kind), apart_plainly(POINTS[name], kind)
    for share in SHARES:
        reach = max(1e-5, quantile_plainly(apart, share))
        assert max(1e-5, quantile(squares, share)) == pytest.approx(reach, rel=1e-12)
        assert dbscan(squares, max(1e-5, quantile(squares, share)), least).tolist() == dbscan_plainly(
            apart, reach, least
        )


def test_neighbours_exactly_at_reach_are_within_it():
    squares = squared_distances(torch.from_numpy(LATTICE), "euclidean")
    assert not dbscan(squares, 0.1, 4).any()
    assert np.bincount(dbscan(squares, 0.1, 5) + 1).tolist() == [4, 140]  # a corner touches no core
    assert (dbscan(squares, 0.1, 6) == NOISE).all()
    assert (dbscan(squares, 0.1 * (1 - 1e-6), 2) == NOISE).all()


def test_one_point_is_a_cluster_where_one_is_enough():
    squares = squared_distances(torch.ones(1, 3), "euclidean")
    assert dbscan(squares, 1.0, 1).tolist() == [0]
    assert dbscan(squares, 1.0, 2).tolist() == [NOISE]


def test_a_point_between_two_clusters_joins_the_first():
    places = torch.tensor([10.0, 10.25, 10.5, 11.0, 12.0, 13.0, 13.5, 13.75, 14.0])[:, None]
    for ordered in (places, places.flip(0)):
        found = dbscan(squared_distances(ordered, "euclidean"), 1.0, 4)
        assert found.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_dbscan_equals_scikit_learn(seed):
    from sklearn.cluster import DBSCAN

    draw = np.random.default_rng(seed)
    points = draw.normal(size=(60, 3)) * draw.random((60, 1)) ** 2
    squares = squared_distances(torch.from_numpy(points), "euclidean")
    reach, least = 1.001 * float(np.percentile(np.sqrt(squares[squares > 0]), 5 + seed)), 2 + seed % 4
    found = dbscan(squares, reach, least)
    assert (found == DBSCAN(eps=reach, min_samples=least).fit(points).labels_).all()


LONG = {
    "even": DRAW.random(50_001),
    "half zero": DRAW.random(50_001) * (DRAW.random(50_001) < 0.5),
    "few values": DRAW.integers(0, 9, 50_001).astype(float),
    "rising": np.arange(50_001.0),
    "short": DRAW.random(5),
}


@pytest.mark.parametrize("name", LONG)
def test_a_run_holds_its_rank_and_the_next(name):
    values = LONG[name]
    ranked = np.sort(values)
    for rank in (0, 1, len(values) // 4, len(values) // 2, len(values) - 2, len(values) - 1):
        first, run = _around(values, rank)
        assert (run == ranked[first : first + len(run)]).all()
        assert first <= rank < first + len(run)
        assert rank + 1 < first + len(run) or rank + 1 == len(values)


def test_a_run_is_short():
    assert len(_around(LONG["even"], 12_500)[1]) < 6_000


@pytest.mark.parametrize("rank", [100, 12_500])
def test_where_the_sample_misleads_the_run_is_all_values(rank):
    """The sample, every 25th value, holds the smallest: its 100th is that of all, so the next may be outside."""
    values = np.empty(50_001)
    sampled = np.arange(len(values)) % 25 == 0
    values[sampled], values[~sampled] = np.arange(2001.0), np.arange(2001.0, 50_001.0)
    first, run = _around(values, rank)
    assert first == 0
    assert (run == np.arange(50_001.0)).all()
