"""Eigen-CAM and its kin against numpy's decomposition, scikit-learn's kernel PCA, slow loops and pytorch-grad-cam."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from medxai.attribution.eigen_cams import FEM, EigenCAM, EigenGradCAM, SegEigenCAM
from medxai.attribution.gradient_cams import HiResCAM
from medxai.attribution.kernel_pca import KPCACAM
from medxai.core.target import ClassScore
from tests.networks import CONV, LAYER, POOL, images, net
from tests.peers import by_grad_cam, split
from tests.reference.helpers import relative

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
TARGET = ClassScore(1)


def wide(ndim, channels):
    """A layer ("1") of many channels, with a curved head."""
    torch.manual_seed(0)
    return nn.Sequential(
        CONV[ndim](1, channels, 3, padding=1),
        nn.ReLU(),
        CONV[ndim](channels, 4, 3, padding=1),
        nn.Softplus(),
        POOL[ndim](1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()


def by_numpy(features):
    """First principal coordinate of each cell up to sign, and the share of variance, of one sample (K, *cells)."""
    cells = features.flatten(1).T.double().numpy()
    cells = cells - cells.mean(0)
    _, values, axes = np.linalg.svd(cells, full_matrices=False)
    return torch.from_numpy(cells @ axes[0]).view(features.shape[1:]), values[0] ** 2 / (values**2).sum()


SOURCES = {
    EigenCAM: lambda A, g: A,
    EigenGradCAM: lambda A, g: A * g,
    SegEigenCAM: lambda A, g: A * g.abs(),
}


@DIMENSIONS
@pytest.mark.parametrize("method", SOURCES)
@pytest.mark.parametrize("channels", [5, 300], ids=["fewer channels than cells", "more channels than cells"])
def test_equals_the_singular_value_decomposition_up_to_its_sign(method, ndim, channels):
    model, x = wide(ndim, channels), images(ndim, 2, (5, 6, 7))
    features = SOURCES[method](*split(model, 2, x, 1))
    found = method(layer="1")(model, x, TARGET)
    for i in range(2):
        line, share = by_numpy(features[i])
        ours = found.maps[i].double()
        assert min(relative(ours, line), relative(-ours, line)) < 1e-5
        assert float(found.details["explained_variance_ratio"][i]) == pytest.approx(share, rel=1e-5)


@DIMENSIONS
@pytest.mark.parametrize("method", SOURCES)
def test_equals_pytorch_grad_cam_up_to_its_sign(method, ndim):
    model, x = net(ndim).eval(), images(ndim)
    theirs = by_grad_cam(method.__name__, *split(model, 5, x, 1))
    ours = method(layer=LAYER)(model, x, TARGET).maps
    for mine, other in zip(ours, theirs, strict=True):
        assert min(relative(mine, other), relative(-mine, other)) < 1e-5


@DIMENSIONS
def test_the_sign_follows_a_stated_rule(ndim):
    for seed in range(8):
        model, x = net(ndim, seed).eval(), images(ndim)
        A, _ = split(model, 5, x, 1)
        together = EigenCAM(layer=LAYER)(model, x, TARGET).maps * A.abs().mean(1)
        assert bool((together.flatten(1).sum(1) > 0).all())
        graded = EigenGradCAM(layer=LAYER)(model, x, TARGET).maps
        hires = HiResCAM(layer=LAYER, relu=False)(model, x, TARGET).maps
        assert bool(((graded * hires).flatten(1).sum(1) > 0).all())
        segmented = SegEigenCAM(layer=LAYER)(model, x, TARGET).maps.flatten(1)
        assert bool((segmented.amax(1) >= -segmented.amin(1)).all())


def test_a_component_that_explains_little_says_so():
    model, x = wide(2, 40), torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(model[0].weight.shape, generator=torch.Generator().manual_seed(1)))
    found = EigenCAM(layer="1")(model, x, TARGET)
    assert float(found.details["explained_variance_ratio"][0]) < 0.3
    assert any("of the layer's variance" in notice for notice in found.notices)


def test_a_layer_without_variance_is_degenerate():
    model = wide(2, 4)
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(1)
    assert EigenCAM(layer="1")(model, images(2), TARGET).status[0].reason == "zero map"


MEASURED = """
import resource, torch
from medxai.attribution.principal import first_component
first_component(torch.rand(1, 512, 3, 3, 3))
features = torch.rand(1, 512, 32, 32, 32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first_component(features)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read as Linux reports it")
def test_the_component_of_a_large_volume_takes_little_memory():
    """512 channels at 32^3 cells: a full decomposition would hold a matrix of 4.3 GB."""
    answer = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)  # noqa: S603
    assert int(answer.stdout) < 200


@DIMENSIONS
@pytest.mark.parametrize("kernel", ["sigmoid", "rbf"])
def test_kpca_cam_equals_scikit_learn_up_to_sign(kernel, ndim):
    from sklearn.decomposition import KernelPCA

    model, x = net(ndim).eval(), images(ndim)
    A, _ = split(model, 5, x, 1)
    found = KPCACAM(layer=LAYER, kernel=kernel)(model, x, TARGET).maps
    for i in range(2):
        cells = A[i].flatten(1).T.double().numpy()
        theirs = KernelPCA(1, kernel=kernel).fit_transform(cells - cells.mean(0))[:, 0]
        expected = torch.from_numpy(theirs).view(A.shape[2:])
        assert min(relative(found[i].double(), expected), relative(-found[i].double(), expected)) < 1e-5


def test_kpca_cam_with_fewer_landmarks_says_so_and_stays_close():
    """A layer of one smooth pattern, which averages of blocks still hold."""
    model, x = wide(3, 6), images(3, 1, (3, 3, 3))
    for axis in (2, 3, 4):
        x = x.repeat_interleave(4, axis)
    whole, few = (KPCACAM(layer="1", landmarks=n)(model, x, TARGET) for n in (4096, 216))
    assert not any("blocks" in notice for notice in whole.notices)
    assert any("216 averaged blocks" in notice for notice in few.notices)
    assert few.maps.shape == whole.maps.shape
    assert float(np.corrcoef(whole.maps.flatten(), few.maps.flatten())[0, 1]) > 0.95


@DIMENSIONS
def test_fem_counts_the_cells_that_stand_out(ndim):
    model, x = net(ndim).eval(), images(ndim)
    A = split(model, 5, x, 1)[0][0].double().numpy()
    expected = np.zeros(A.shape[1:])
    for k in range(len(A)):
        cells = [A[k][u] for u in itertools.product(*map(range, A.shape[1:]))]
        mean = sum(cells) / len(cells)
        deviation = (sum((c - mean) ** 2 for c in cells) / len(cells)) ** 0.5
        expected += sum(c > mean + 2 * deviation for c in cells) / len(cells) * A[k]
    found = FEM(layer=LAYER)(model, x, TARGET).maps
    assert relative(found[0].double(), torch.from_numpy(expected)) < 1e-5
    assert relative(found, by_grad_cam("FEM", *split(model, 5, x, 1))) < 1e-5
