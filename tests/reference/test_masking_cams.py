"""Score-CAM, SS-CAM and IS-CAM three ways: closed form, slow re-derivation from the paper, torchcam."""

import itertools
import weakref

import pytest
import torch
from torch import nn

from medxai.attribution.masking_cams import ISCAM, SSCAM, ScoreCAM
from medxai.core.layer import Footprint, Layer
from medxai.core.target import ClassScore, ContrastScore, RegionScore
from medxai.errors import UsageError
from medxai.model.guard import seeded
from tests.networks import CONV, LAYER, images, net
from tests.reference.helpers import out_of_place, relative, seen_batches

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
FULL = 1  # the seed of a network none of whose channels is constant
PUBLISHED = {"placement": "interpolate", "channel_norm": "softmax"}


def linear(ndim, channels=3):
    """y = <v, x>: a 1x1 convolution to map channels, read at layer "0", and a head that is linear in the image."""
    torch.manual_seed(2)
    shape = (4, 3, 5)[:ndim]
    size = int(torch.tensor(shape).prod())
    return nn.Sequential(CONV[ndim](1, channels, 1), nn.Flatten(), nn.Linear(channels * size, 2)), shape


def bend(model, x):
    """v of y = <v, x> + c, per class."""
    base = model(torch.zeros_like(x[:1]))
    steps = torch.eye(x[0].numel()).view(-1, *x.shape[1:])
    return (model(steps) - base).T.detach()


def normalised(A):
    cells = A.flatten(1)
    low, high = cells.min(1, keepdim=True).values, cells.max(1, keepdim=True).values
    return ((cells - low) / (high - low)).view_as(A)


@DIMENSIONS
@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_weights_of_a_linear_network_in_closed_form(ndim, baseline):
    """s_k - s_0 = <v, m_k (x - b)>; IS-CAM averages j/n, so its weights are (n + 1) / 2n of Score-CAM's."""
    model, shape = linear(ndim)
    x = torch.rand(1, 1, *shape)
    v, A = bend(model, x)[1].view(shape), model[0](x).detach()[0]
    masks = normalised(A)
    gained = torch.stack([(v * m * (x[0, 0] - baseline)).sum() for m in masks]).relu()
    expected = torch.einsum("k,k...->...", gained, A)
    options = {"layer": "0", "baseline": baseline, "relu": False}
    torch.testing.assert_close(ScoreCAM(**options)(model, x, ClassScore(1)).maps[0], expected, rtol=1e-4, atol=1e-5)
    path = ISCAM(**options, n=5)(model, x, ClassScore(1)).maps[0]
    torch.testing.assert_close(path, 0.6 * expected, rtol=1e-4, atol=1e-5)


def by_hand(model, x, target, footprint):
    """Every mask voxel by voxel: linear between the centres of the cells, constant beyond the last."""
    model = model.eval()
    A = model[:5](x).detach()[0]
    masks = normalised(A)
    clean = target(model(torch.zeros_like(x)))
    result = torch.zeros_like(A[0])
    for channel, mask in zip(A, masks, strict=True):
        if channel.min() == channel.max():
            continue
        image = torch.zeros_like(x)
        for voxel in itertools.product(*map(range, x.shape[2:])):
            value = 0.0
            places = [
                min(max((v - s) / j, 0), n - 1)
                for v, s, j, n in zip(voxel, footprint.start, footprint.jump, footprint.shape, strict=True)
            ]
            for corner in itertools.product(
                *[{int(p), min(int(p) + 1, n - 1)} for p, n in zip(places, mask.shape, strict=True)]
            ):
                share = 1.0
                for p, c in zip(places, corner, strict=True):
                    share *= max(0.0, 1 - abs(p - c))
                value += share * float(mask[corner])
            image[(0, 0, *voxel)] = x[(0, 0, *voxel)] * value
        result += (target(model(image)) - clean).relu().detach() * channel
    return result


@DIMENSIONS
def test_equals_a_slow_derivation_by_footprint(ndim):
    model, x = net(ndim, seed=4), images(ndim, batch=1, size=(7, 6, 5))
    place = Footprint((0.0,) * ndim, (2.0,) * ndim, tuple((n + 1) // 2 for n in x.shape[2:]))
    found = ScoreCAM(layer=LAYER)(model, x, ClassScore(1))
    assert found.footprint == place
    assert found.status[0].ok
    assert relative(found.maps[0], by_hand(model, x, ClassScore(1), place)) < 1e-4


@DIMENSIONS
def test_equals_torchcam(ndim):
    from torchcam.methods import ScoreCAM as Foreign

    model, x = out_of_place(net(ndim)).eval(), images(ndim)
    with Foreign(model, target_layer=LAYER) as extractor:
        model(x)
        theirs = extractor([1, 2], normalized=False)[0]
    ours = ScoreCAM(layer=LAYER, **PUBLISHED)(model, x, ClassScore((1, 2)))
    assert relative(ours.maps, theirs) <= 1e-5


@DIMENSIONS
def test_smooth_masks_equal_torchcam_under_the_same_noise(ndim):
    from torchcam import methods

    model, x, n = out_of_place(net(ndim, seed=FULL)).eval(), images(ndim, batch=1), 3
    channels, shape = 6, (1, *x.shape[2:])
    generators = [torch.Generator().manual_seed((5 * 2**20 + c) % 2**63) for c in range(channels)]
    draws = [torch.stack([torch.randn(shape, generator=g) for g in generators])[None, :, 0] for _ in range(n)]

    class Same:
        def sample(self, size):
            assert size == draws[0].shape
            return 2.0 * draws.pop(0)

    with methods.SSCAM(model, target_layer=LAYER, num_samples=n) as extractor:
        extractor._distrib = Same()
        model(x)
        theirs = extractor(1, normalized=False)[0]
    with seeded(5, x.device):
        ours = SSCAM(layer=LAYER, n=n, std=2.0, **PUBLISHED)(model, x, ClassScore(1))
    assert ours.details["masks"].tolist() == [channels]  # a constant channel is noise alone for torchcam, not for us
    assert relative(ours.maps, theirs) <= 1e-5


@DIMENSIONS
def test_torchcam_leads_its_integration_path_far_beyond_the_image(ndim):
    """Its n-th input is the masked image times (n + 1) / 2, so only n = 1 is the mean over a path."""
    from torchcam import methods

    model, x = out_of_place(net(ndim)).eval(), images(ndim)
    largest = []
    model.register_forward_pre_hook(lambda _module, args: largest.append(float(args[0].max())))

    def theirs(n):
        with methods.ISCAM(model, target_layer=LAYER, num_samples=n) as extractor:
            model(x)
            return extractor([1, 2], normalized=False)[0]

    assert relative(ISCAM(layer=LAYER, n=1, **PUBLISHED)(model, x, ClassScore((1, 2))).maps, theirs(1)) <= 1e-5
    largest.clear()
    theirs(10)
    assert max(largest) > 4 * float(x.max())
    largest.clear()
    ISCAM(layer=LAYER, n=10)(model, x, ClassScore((1, 2)))
    assert max(largest) <= float(x.max())


@DIMENSIONS
def test_fourteen_targets_cost_what_one_costs_and_constant_channels_nothing(ndim):
    model, x = net(ndim), images(ndim, batch=1)
    A = model.eval()[:5](x)
    varying = int((A.flatten(2).amax(2) > A.flatten(2).amin(2)).sum())
    with seen_batches(model) as one:
        ScoreCAM(layer=LAYER)(model, x, ClassScore(1))
    targets = [ClassScore(c % 3) for c in range(13)] + [ContrastScore(0, (1,))]
    with seen_batches(model) as many:
        found = ScoreCAM(layer=LAYER).attribute(model, x, targets)
    assert one == many
    both_ways = 2  # with channels first and last
    assert sum(one) == 1 + 1 + both_ways + varying + 1  # the trace, the image, its masks, the image faded altogether
    assert found[0].details["masks"].tolist() == [varying]
    alone = ScoreCAM(layer=LAYER)(model, x, ContrastScore(0, (1,)))
    assert torch.equal(found[-1].maps, alone.maps)


@DIMENSIONS
def test_no_more_voxels_at_a_time_than_allowed(ndim):
    model, x = net(ndim, seed=4), images(ndim, batch=1)
    whole = ScoreCAM(layer=LAYER)(model, x, ClassScore(1))
    with seen_batches(model) as batches:
        found = ScoreCAM(layer=LAYER, voxels=2 * x.numel() + 1)(model, x, ClassScore(1))
    assert max(batches) == 2
    assert relative(found.maps, whole.maps) <= 1e-5
    with seen_batches(model) as batches:
        ScoreCAM(layer=LAYER, voxels=1)(model, x, ClassScore(1))
    assert max(batches) == 1


def test_scores_on_other_scales():
    """The author's form: softmax probabilities that weigh as they are, constant channels left out."""
    model, x = out_of_place(net(2)).eval(), images(2, batch=1)
    found = ScoreCAM(layer=LAYER, placement="interpolate", link="softmax", channel_norm="raw")(model, x, ClassScore(1))
    A = model[:5](x).detach()
    expected = torch.zeros_like(A[0, 0])
    for k in range(A.shape[1]):
        if A[0, k].max() > A[0, k].min():
            mask = nn.functional.interpolate(normalised(A[0])[None, k : k + 1], x.shape[2:], mode="bilinear")
            expected += model(x * mask).softmax(1)[0, 1].detach() * A[0, k]
    assert relative(found.maps[0], expected) <= 1e-5
    linked = [
        ScoreCAM(layer=LAYER, link=link, channel_norm="diff", relu=False)(model, x, ClassScore(1)).maps
        for link in ("softmax", "log_softmax")
    ]
    assert relative(*linked) > 0.01


def test_evidence_against_remains_where_asked_for():
    model, shape = linear(2)
    x = torch.rand(1, 1, *shape)
    signed = ScoreCAM(layer="0", channel_norm="diff", relu=False)
    one = signed(model, x, ClassScore(0)).maps
    flipped = signed(model, x, ContrastScore(1, (0,), gamma=2.0)).maps
    other = signed(model, x, ClassScore(1)).maps
    torch.testing.assert_close(flipped, other - 2 * one, rtol=1e-3, atol=1e-4)  # linear in the target, sign included


def test_a_baseline_outside_the_image_is_told():
    model, x = net(2), images(2) + 5
    found = ScoreCAM(layer=LAYER)(model, x, ClassScore(1))
    assert any("masked voxels fade to 0, outside the intensities of channel 0, 5" in n for n in found.notices)
    inside = ScoreCAM(layer=LAYER, baseline=5.2)(model, x, ClassScore(1))
    assert not any("fade" in notice for notice in inside.notices)


def test_one_baseline_per_channel():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    x = torch.rand(1, 2, 5, 5)
    with seen_batches(model, keep=True) as inputs:
        ScoreCAM(layer="1", baseline=(0.25, 0.75))(model, x, ClassScore(0))
    faded = [one for batch in inputs for one in batch if not one.is_meta and bool((one == one[:, :1, :1]).all())]
    assert [one[:, 0, 0].tolist() for one in faded] == [[0.25, 0.75]] * 3  # the first image is asked both ways before
    with pytest.raises(UsageError, match="one per channel"):
        ScoreCAM(layer="1", baseline=(0.1, 0.2, 0.3))(model, x, ClassScore(0))


def test_masks_lie_where_the_cells_look():
    """A kernel of 9 without padding looks 4 voxels further than the stretched map says."""
    model = nn.Sequential(nn.Conv2d(1, 1, 9), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[0, 0, 4, 4] = 1
        model[0].bias.zero_()
        model[3].weight.fill_(1.0)
    x = torch.zeros(1, 1, 16, 16)
    x[0, 0, 6, 9] = 1
    kept = {}
    for placement in ("footprint", "interpolate"):
        with seen_batches(model, keep=True) as inputs:
            ScoreCAM(layer="1", placement=placement)(model, x, ClassScore(0))
        kept[placement] = float(inputs[-1][0, 0, 6, 9])
    assert kept["footprint"] == 1
    assert kept["interpolate"] < 0.5


def test_the_predicted_region_is_that_of_the_image_as_it_is():
    class Segmenter(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)
            with torch.no_grad():
                self.features.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
                self.features.bias.copy_(torch.tensor([0.0, 1.0]))
                self.head.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
                self.head.bias.copy_(torch.tensor([0.0, 0.3]))

        def forward(self, x):
            return self.head(self.features(x).relu())

    x = torch.rand(2, 1, 6, 6)
    model = Segmenter()
    region = model(x).argmax(1) == 0
    predicted = ScoreCAM(layer="features")(model, x, RegionScore(0)).maps
    given = ScoreCAM(layer="features")(model, x, RegionScore(0, region)).maps
    assert 0 < int(region.sum()) < region.numel()
    assert torch.equal(predicted, given)


def test_noise_depends_on_the_seed_and_not_on_the_company():
    model, x = net(3), images(3)
    method = SSCAM(layer=LAYER, n=2)

    def maps(seed, x, **changes):
        with seeded(seed, x.device):
            return SSCAM(layer=LAYER, n=2, **changes)(model, x, ClassScore(1)).maps

    assert relative(maps(0, x), torch.cat([maps(0, x[:1]), maps(0, x[1:])])) <= 1e-5
    assert relative(maps(0, x, voxels=1), maps(0, x)) <= 1e-5
    assert relative(maps(1, x), maps(0, x)) > 0.01
    assert method.traits.random


def test_a_layer_that_was_looked_up_without_a_footprint_gets_one():
    found = ScoreCAM(layer=Layer(LAYER))(net(2), images(2), ClassScore(1))
    assert found.footprint == Footprint((0.0, 0.0), (2.0, 2.0), (5, 6))


def test_no_graph_outlives_the_clean_pass():
    """While masks are asked about, nothing is kept that only a backward pass would need."""

    class Saved:
        def __init__(self, tensor):
            self.tensor = tensor
            kept.add(self)

    kept, alive = weakref.WeakSet(), []
    model, x = net(2), images(2, batch=1)
    model[8].register_forward_hook(lambda *_: alive.append(len(kept)))
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        ScoreCAM(layer=LAYER)(model, x, ClassScore(1))
    assert max(alive) > 0
    assert alive[-1] == 0
