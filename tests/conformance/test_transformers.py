"""Every method on transformers: a map of the token grid that is the same alone as in a batch, or a named refusal."""

import pytest
import torch

from benchmarks.support.brief import brief
from medxai import catalog
from medxai.core.target import ClassScore
from medxai.errors import MedxaiError
from medxai.model.guard import seeded
from tests.transformers import Swin, TimmMerging, TimmViT, TorchvisionViT

SIZE, GRID = (48, 32), (6, 4)
NETWORKS = {
    "timm": lambda: TimmViT(GRID, registers=2),
    "torchvision": lambda: TorchvisionViT(GRID),
    "swin": lambda: Swin(TimmMerging),
}
FINER = {("CoIBA", "swin"): (12, 8)}  # its map lies on the first of several layers
CLASSES = (2, 1)
# what a method cannot do by its definition: no linear head on an average, no ReLU
NO_HEAD, NO_RELU = "needs a linear head", "none between the image and the score"
REFUSES = {
    ("CAM", "timm"): NO_HEAD,
    ("CAM", "torchvision"): NO_HEAD,
    **{("GuidedGradCAM", network): NO_RELU for network in NETWORKS},
}


def cases():
    for name in sorted(catalog.methods()):
        asks = catalog.traits(name).reads == "score"
        for network in NETWORKS:
            slow = asks or network == "torchvision"
            yield pytest.param(name, network, id=f"{name}-{network}", marks=[pytest.mark.slow] if slow else [])


def maps(name, network, x, classes):
    method = brief(catalog.method(name), 4)
    with seeded(0, x.device):
        return method(NETWORKS[network](), x, ClassScore(classes))


@pytest.mark.parametrize(("name", "network"), list(cases()))
def test_map_on_the_token_grid_or_a_named_refusal(name, network):
    x = torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))
    if (name, network) in REFUSES:
        with pytest.raises(MedxaiError, match=REFUSES[name, network]):
            maps(name, network, x, CLASSES)
        return
    found = maps(name, network, x, CLASSES)
    assert found.maps.shape == (2, *(FINER.get((name, network), GRID) if found.layer else SIZE))
    assert found.maps.isfinite().all()
    assert all(found.maps[i].any() for i, status in enumerate(found.status) if status.ok)
    if name == "HiResCAM" and network != "swin":
        # the patches are read through a LayerNorm, which no scale moves: g is at right angles to A, their product noise
        assert [status.reason for status in found.status] == ["the channels cancel to rounding"] * 2
    elif not catalog.traits(name).random:  # what draws noise draws other noise for another batch
        alone = maps(name, network, x[1:], CLASSES[1]).maps[0]
        assert float((alone - found.maps[1]).abs().max()) <= 1e-4 * float(found.maps[1].abs().max())
