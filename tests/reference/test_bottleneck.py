"""The information bottleneck: its bits by Monte Carlo and at its limits, and what it finds where the truth is known."""

from dataclasses import replace
from math import log, pi

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from medxai.attribution.bottleneck.gate import Gate, bits, smooth
from medxai.attribution.bottleneck.iba import IBA, InverseIBA
from medxai.attribution.bottleneck.statistics import FeatureStatistics, estimate
from medxai.core.target import ClassScore
from medxai.errors import InputError, ModelError, NonFiniteError, UsageError
from medxai.io.write import write_file
from medxai.model.guard import seeded
from tests.networks import CONV, LAYER, images, net

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
CPU = torch.device("cpu")


@pytest.mark.parametrize(("alpha", "r"), [(-2.0, 0.5), (0.0, 2.0), (1.5, -1.0)])
def test_nats_equal_the_divergence_of_samples(alpha, r):
    """KL(N(lambda r, (1 - lambda)^2) || N(0, 1)) as the mean of log p - log q over draws of p."""
    torch.manual_seed(0)
    openness = torch.tensor(alpha).sigmoid()
    width = 1 - openness
    z = openness * r + width * torch.randn(2_000_000)
    inside = -((z - openness * r) ** 2) / (2 * width**2) - torch.log(width) - 0.5 * log(2 * pi)
    prior = -(z**2) / 2 - 0.5 * log(2 * pi)
    expected = float((inside - prior).mean())
    found = Gate.of(torch.full((1, 1, 1, 1), alpha), (0.0, 0.0)).nats(torch.tensor(r))
    assert float(found) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("alpha", [-100.0, -17.0, 17.0, 60.0, 100.0])
def test_no_gate_is_too_open_or_too_shut(alpha):
    """1 - sigmoid(17) is 0 in float32, and its logarithm would be infinite."""
    wide = torch.full((1, 2, 5, 5), alpha, requires_grad=True)
    nats = Gate.of(wide, (1.0, 1.0)).nats(torch.ones(1, 2, 5, 5))
    nats.sum().backward()
    assert nats.isfinite().all()
    assert wide.grad.isfinite().all()


def test_a_shut_gate_passes_no_bit():
    gate = Gate.of(torch.full((1, 1, 4, 4), -40.0), (0.0, 0.0))
    assert float(bits(gate.nats(torch.full((1, 1, 4, 4), 3.0))).abs().max()) < 1e-6


@DIMENSIONS
def test_smoothing_equals_scipy(ndim):
    torch.manual_seed(1)
    values = torch.rand(1, 2, *(9, 10, 11)[:ndim])
    sigma = (1.0, 1.5, 0.6)[:ndim]
    found = smooth(values, sigma)
    for channel in range(2):
        expected = values[0, channel].numpy()
        for axis, width in enumerate(sigma):
            one = [0.0] * ndim
            one[axis] = width
            expected = gaussian_filter(expected, one, mode="mirror", radius=round(2 * width))
        torch.testing.assert_close(found[0, channel], torch.from_numpy(expected), rtol=1e-5, atol=1e-6)
    assert torch.allclose(smooth(torch.ones_like(values), sigma), torch.ones_like(values))


@DIMENSIONS
@pytest.mark.parametrize("kind", ["element", "channel"])
def test_statistics_in_batches_equal_those_of_all_at_once(ndim, kind, tmp_path):
    model, x = net(ndim), images(ndim, batch=10)
    found = estimate(model, x.split([1, 4, 2, 3]), LAYER, kind)
    features = model.eval()[:5](x).detach()
    axes = [0] if kind == "element" else [0, *range(2, ndim + 2)]
    torch.testing.assert_close(found.mean, features.mean(axes, keepdim=True)[0])
    torch.testing.assert_close(found.std, features.std(axes, keepdim=True)[0])
    alive = (features != 0).any(axes[1:], keepdim=True)  # a channel that fires in one cell of a volume is no dead one
    torch.testing.assert_close(found.active, alive.float().mean(0))
    write_file(tmp_path / "s.safetensors", found.to_bytes())
    assert FeatureStatistics.read(tmp_path / "s.safetensors") == found
    with pytest.raises(InputError, match="another layer"):
        found.fits(torch.zeros(1, 9, *[3] * ndim))


@DIMENSIONS
def test_statistics_per_channel_are_those_of_images_of_any_size(ndim):
    model, x, larger = net(ndim).eval(), images(ndim, batch=3), images(ndim, 2, (15, 13, 11))
    found = estimate(model, [x, larger], LAYER)
    cells = torch.cat([model[:5](some).detach().movedim(1, 0).flatten(1) for some in (x, larger)], 1)
    torch.testing.assert_close(found.mean.flatten(), cells.mean(1))
    torch.testing.assert_close(found.std.flatten(), cells.std(1))
    assert found.count == 5
    with pytest.raises(ModelError, match="one size"):
        estimate(model, [x, larger], LAYER, "element")


class Redundant(nn.Module):
    """Brightness on the left or on the right says yes; one of them is enough."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.features, self.act = CONV[ndim](1, 1, 3, padding=1), nn.ReLU()
        with torch.no_grad():
            self.features.weight.fill_(1 / 3**ndim)
            self.features.bias.fill_(-0.6)

    def forward(self, x):
        sides = self.act(self.features(x)).tensor_split(2, dim=-1)
        cues = torch.stack([torch.tanh(side.flatten(1).sum(1)) for side in sides], 1)
        score = 6 * cues.amax(1) - 3
        return torch.stack([-score, score], 1)


def cues(ndim, sides, seed):
    size = (16, 24) if ndim == 2 else (8, 12, 24)
    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(seed)) * 0.5
    middle = (slice(6, 10),) if ndim == 2 else (slice(2, 6), slice(4, 8))
    for side in sides:
        image[(..., *middle, slice(3, 7) if side == "left" else slice(17, 21))] = 1.0
    return image


@DIMENSIONS
def test_iba_needs_one_of_two_redundant_cues_and_the_inverse_both(ndim):
    model = Redundant(ndim).eval()
    cohort = [cues(ndim, ((), ("left",), ("right",), ())[i % 4], 100 + i) for i in range(64)]
    statistics = estimate(model, cohort, "act", "element")
    image = cues(ndim, ("left", "right"), 3)
    weaker: dict[type, list[float]] = {IBA: [], InverseIBA: []}
    for method, shares in weaker.items():
        for seed in range(10):
            with seeded(seed, CPU):
                found = method(layer="act", statistics=statistics, beta=0.1, copies=4)(model, image, ClassScore(1))
            told = {name: float(values[0]) for name, values in found.details.items() if values.ndim == 1}
            left = (told["complement score"] - told["noise score"]) / (told["clean score"] - told["noise score"])
            halves = [float(half.sum() / found.maps.sum()) for half in found.maps[0].tensor_split(2, dim=-1)]
            shares.append(min(halves))
            assert found.status[0].ok
            assert told["bits"] == pytest.approx(float(found.maps.sum()), rel=1e-5)
            assert told["retained"] > 0.9
            assert left > 0.7 if method is IBA else left < 0.15
    assert sum(weaker[IBA]) / 10 < 0.2
    assert min(weaker[InverseIBA]) > 0.35


@DIMENSIONS
@pytest.mark.parametrize("method", [IBA, InverseIBA])
def test_beta_is_found_that_leaves_the_wanted_share(method, ndim):
    model, image = Redundant(ndim).eval(), cues(ndim, ("left", "right"), 3)
    cohort = [cues(ndim, ((), ("left",), ("right",), ())[i % 4], 100 + i) for i in range(64)]
    statistics = estimate(model, cohort, "act", "element")
    bits = []
    for retention in (0.6, 0.9):
        with seeded(1, CPU):
            found = method(layer="act", statistics=statistics, copies=4, retention=retention)(
                model, image, ClassScore(1)
            )
        told = {name: float(values[0]) for name, values in found.details.items() if values.ndim == 1}
        left = (told["complement score"] - told["noise score"]) / (told["clean score"] - told["noise score"])
        assert retention <= (told["retained"] if method is IBA else 1 - left) < retention + 0.2
        bits.append(told["bits"])
    assert bits[0] < bits[1]


@DIMENSIONS
def test_one_gate_for_all_channels_finds_the_same_place_with_less_memory(ndim):
    model, image = Redundant(ndim).eval(), cues(ndim, ("left",), 5)
    maps, held = [], []
    for shared in (False, True):
        leaves: list[int] = []

        def keep(optimiser, *_, into=leaves):
            into.extend(parameter.numel() for group in optimiser.param_groups for parameter in group["params"])

        handle = register_optimizer_step_pre_hook(keep)
        try:
            with seeded(0, CPU):
                found = IBA(layer="wide", beta=0.1, shared_channels=shared)(Wide(model), image, ClassScore(1))
        finally:
            handle.remove()
        maps.append(found.maps.flatten())
        held.append(leaves[0])
    assert held[0] == 4 * held[1]
    assert held[1] == image.numel()
    assert float(torch.corrcoef(torch.stack(maps))[0, 1]) > 0.8


class Wide(nn.Module):
    """The same evidence in four channels of a layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.wide = model, nn.Identity()

    def forward(self, x):
        strength = torch.tensor([0.4, 0.8, 1.2, 1.6]).view(1, 4, *[1] * (x.ndim - 2))
        return self.model(self.wide(x * strength).mean(1, keepdim=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_statistics_of_what_is_not_finite_are_refused(bad):
    model, x = net(2).eval(), images(2)
    wrong = x.clone()
    wrong[1, 0, 3, 4] = bad
    with pytest.raises(NonFiniteError, match=r"images of batch 1, counted from 0, are not finite.*Found 1 of 198"):
        estimate(model, [x, wrong], LAYER)
    known = estimate(model, [x], LAYER)
    unusable = replace(known, std=known.std * bad)
    with pytest.raises(NonFiniteError, match="statistics of layer '4' are not finite"):
        IBA(layer=LAYER, statistics=unusable, beta=0.1, steps=2, copies=2)(model, x, ClassScore(1))
    model[3].bias.data[2] = bad
    with pytest.raises(NonFiniteError, match="features of layer '4' in batch 0, counted from 0, are not finite"):
        estimate(model, [x], LAYER)


@pytest.mark.parametrize("batch", [{"image": images(2)}, (images(2), 1), [images(2)]])
def test_statistics_of_what_a_loader_gives_say_what_to_pick_out_of_it(batch):
    with pytest.raises(UsageError, match=r"tensor \(n, channel, \*space\).*\(batch\[\"image\"\] for batch in loader\)"):
        estimate(net(2), iter([batch]), LAYER)


def test_statistics_of_one_tensor_are_refused():
    with pytest.raises(UsageError, match=r"Found a tensor \(2, 1, 9, 11\)\. Give \[images\]"):
        estimate(net(2), images(2), LAYER)
