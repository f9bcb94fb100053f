"""CF-CAM: its published form against a slow one, and what it is worth."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, cross_entropy

from medxai.attribution.cf_cam import CFCAM
from medxai.attribution.clusters import NOISE
from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from tests.networks import CONV
from tests.peers import split
from tests.reference.helpers import relative

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def as_released(A, g):
    """The authors' steps for one sample: norms, DBSCAN, a filter by convolution, a softmax."""
    from sklearn.cluster import DBSCAN

    rows = A.flatten(1).numpy()
    norms = np.linalg.norm(rows, axis=1)
    strong = norms >= np.percentile(norms, 75)
    others = rows[~strong]
    apart = np.linalg.norm(others[:, None] - others[None], axis=2)
    reach = max(np.percentile(apart[~np.eye(len(others), dtype=bool)], 25), 1e-5)
    labels = np.full(len(rows), -2)
    labels[~strong] = DBSCAN(eps=reach, min_samples=max(2, int(0.05 * len(others)))).fit(others).labels_
    weights = g.flatten(1).mean(1)
    for cluster in range(labels.max() + 1):
        mean = g[labels == cluster].mean(0)
        offsets = [torch.arange(n).float() - n / 2 for n in mean.shape]
        near = torch.exp(-(offsets[0][:, None] ** 2 + offsets[1] ** 2) / (2 * 5**2))
        kernel = near * torch.exp(-((mean - mean.mean()) ** 2) / (2 * 0.1**2))
        kernel = (kernel / (kernel.sum() + 1e-6))[None, None]
        weights[labels == cluster] = conv2d(mean[None, None], kernel, padding="same").mean()
    kept = labels != -1
    return torch.einsum("k,k...->...", torch.softmax(weights[kept], 0), A[kept]).relu(), labels


def crowd(seed=0, channels=48):
    """Two families of channels that look alike, strangers, and a pooled linear head."""
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 4, 3), nn.Softplus(), nn.Flatten()
    )
    model.append(nn.Linear(4 * 7 * 5, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=draw))
        third = channels // 3
        for first in (0, third):
            alike = model[0].weight[first] + 0.02 * torch.randn(third, 1, 3, 3, generator=draw)
            model[0].weight[first : first + third] = 0.5 * alike
            model[0].bias[first : first + third] = 0.1
    return model.eval(), torch.rand(1, 1, 9, 7, generator=draw)


@pytest.mark.parametrize("seed", range(3))
def test_the_published_variant_equals_the_authors_steps(seed):
    model, x = crowd(seed)
    expected, labels = as_released(*(t[0] for t in split(model, 2, x, 1)))
    found = CFCAM(layer="1", variant="as_published")(model, x, ClassScore(1)).maps[0]
    assert labels.max() >= 0
    assert relative(found, expected) < 1e-5


def test_a_cluster_shares_one_weight_and_a_stranger_has_none():
    model, x = crowd()
    A, g = split(model, 2, x, 1)
    labels, strong = CFCAM()._clustered(A[0].flatten(1))
    own = g[0].flatten(1).mean(1)
    expected = torch.where(strong, own, 0.0)
    for cluster in range(int(labels.max()) + 1):
        members = labels == cluster
        mean = g[0][members].mean(0)
        place = [torch.arange(n).float() for n in mean.shape]
        kernels = [torch.exp(-((p[:, None] - p) ** 2) / 2) for p in place]
        rows, columns = (kernel / kernel.sum(1, keepdim=True) for kernel in kernels)
        expected[members] = (rows @ mean @ columns.T).mean()
    assert bool((labels == NOISE)[~strong].any())
    found = CFCAM(layer="1", relu=False)(model, x, ClassScore(1)).maps[0]
    assert relative(found, torch.einsum("k,k...->...", expected, A[0])) < 1e-5


def test_where_nothing_clusters_it_is_grad_cam_and_says_so():
    model, x = crowd(channels=48)
    found = CFCAM(layer="1", density=1.0)(model, x, ClassScore(1))
    assert any("Grad-CAM" in notice for notice in found.notices)
    torch.testing.assert_close(found.maps, GradCAM(layer="1")(model, x, ClassScore(1)).maps, rtol=1e-5, atol=1e-8)


class TwoObjects(nn.Module):
    """Bright voxels speak for class 0 and dark ones for class 1, each through sixteen channels of their own gain."""

    def __init__(self, ndim):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        sign = torch.tensor([1.0] * 16 + [-1.0] * 16)
        self.conv, self.act, self.head = CONV[ndim](1, 32, 3, padding=1), nn.ReLU(), nn.Linear(32, 2)
        with torch.no_grad():
            kernel = torch.full((32, 3**ndim), 3.0**-ndim) * (sign * (0.5 + torch.rand(32, generator=draw)))[:, None]
            kernel = kernel + 0.02 * torch.randn(kernel.shape, generator=draw)
            self.conv.weight.copy_(kernel.view(self.conv.weight.shape))
            self.conv.bias.fill_(-0.05)
            self.head.weight[0] = sign * torch.rand(32, generator=draw)
            self.head.weight[1] = -self.head.weight[0]

    def forward(self, x):
        return self.head(self.act(self.conv(x)).flatten(2).mean(2))


def with_two_objects(ndim, seed):
    x = 0.1 * torch.randn(1, 1, *(20, 22, 18)[:ndim], generator=torch.Generator().manual_seed(seed))
    boxes = [(0, 0, slice(3, 8), *[slice(4, 9)] * (ndim - 1)), (0, 0, slice(12, 17), *[slice(10, 15)] * (ndim - 1))]
    x[boxes[0]] += 1
    x[boxes[1]] -= 1
    return x, [box[1:] for box in boxes]


def correlation(a, b):
    if not (a.any() and b.any()):
        return 0.0  # a map that says nothing
    return float(np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1])


@DIMENSIONS
@pytest.mark.parametrize(("variant", "hits"), [("class_sensitive", 1.0), ("as_published", 0.5)])
def test_the_published_softmax_erases_the_class_and_ours_does_not(variant, hits, ndim):
    """Two objects of two classes in each image: is the maximum of a class's map on its own object?"""
    found, alike, model = [], [], TwoObjects(ndim)
    for seed in range(6):
        x, boxes = with_two_objects(ndim, seed)
        maps = [CFCAM(layer="act", variant=variant)(model, x, ClassScore(c)).maps for c in (0, 1)]
        found += [float(m[box].max() == m.max()) for m, box in zip(maps, boxes, strict=True)]
        alike.append(correlation(*maps))
    assert sum(found) / len(found) == hits
    assert max(alike) < 0.1 if variant == "class_sensitive" else min(alike) > 0.999


def shapes(n, draw):
    """Squares and crosses somewhere in noise."""
    square = torch.ones(6, 6)
    cross = torch.zeros(6, 6)
    cross[2:4], cross[:, 2:4] = 1, 1
    x, y = 0.3 * torch.randn(n, 1, 20, 20, generator=draw), torch.randint(0, 2, (n,), generator=draw)
    for image, kind in zip(x[:, 0], y, strict=True):
        r, c = torch.randint(1, 13, (2,), generator=draw).tolist()
        image[r : r + 6, c : c + 6] += square if kind else cross
    return x, y


@cache
def trained(seed):
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(
        *[nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()],
        *[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2)],
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(80):
        x, y = shapes(16, draw)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval(), *shapes(2, draw)


def noisy_maps(method, ratio):
    """Over two trained networks: the clean map, that of each noisy gradient, and that of the noise alone."""
    for seed in range(2):
        model, x, y = trained(seed)
        for i in range(len(x)):
            A, g = split(model, 5, x[i : i + 1], int(y[i]))
            draw = torch.Generator().manual_seed(i)
            for _ in range(4):
                noise = ratio * g.abs().mean() * torch.randn(g.shape, generator=draw)
                yield tuple(with_gradient(method, A, gradient) for gradient in (g, g + noise, noise))


def test_gradient_noise_enters_the_map_with_less_power_than_in_grad_cam():
    """The mean of a cluster's noise has no more power than its parts (Jensen), and dropped channels bring none."""
    power = {
        method: sum(float(noise.square().mean()) for _, _, noise in noisy_maps(method(relu=False), 10))
        for method in (GradCAM, CFCAM)
    }
    assert power[CFCAM] < 0.9 * power[GradCAM]


def test_the_published_map_resists_gradient_noise_because_it_hardly_reads_gradients():
    """Its correlation with the clean map is above Grad-CAM's at any noise, and is as high for the opposite gradient."""
    means = {}
    for name, method in {"published": CFCAM(variant="as_published"), "Grad-CAM": GradCAM()}.items():
        values = [correlation(clean, noisy) for clean, noisy, _ in noisy_maps(method, 20)]
        means[name] = sum(values) / len(values)
    assert means["published"] > 0.999
    assert means["Grad-CAM"] < 0.98
    model, x, y = trained(0)
    A, g = split(model, 5, x[:1], int(y[0]))
    method = CFCAM(variant="as_published")
    assert correlation(with_gradient(method, A, g), with_gradient(method, A, -g)) > 0.99


def with_gradient(method, A, g):
    """The map that the method makes of this activation if its gradient were g: the score is <g, A>."""

    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x):
            return (self.layer(x) * g).flatten(1).sum(1, keepdim=True)

    return replace(method, layer="layer")(Given(), A, ClassScore(0)).maps
