"""A bottleneck on the voxels: its price by Monte Carlo, and a target finer than the cells that guide it."""

from dataclasses import replace
from math import isnan

import pytest
import torch
from torch import nn

from medxai.attribution.bottleneck.gan_prior import GanPrior, Generator, features_of
from medxai.attribution.bottleneck.gate import Gate
from medxai.attribution.bottleneck.iba import IBA, InverseIBA
from medxai.attribution.bottleneck.input_iba import InputIBA
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.regression import InverseRegressionIBA
from medxai.attribution.bottleneck.search import Bottleneck
from medxai.attribution.bottleneck.statistics import FeatureStatistics
from medxai.attribution.passes import one_pass
from medxai.core.layer import Layer
from medxai.core.target import ClassScore
from medxai.errors import UsageError
from medxai.metrics.curves import Perturbation
from medxai.metrics.deletion import insertion
from medxai.metrics.ehr import ehr_mass
from medxai.metrics.imputation import Constant
from medxai.metrics.localisation import mass_in_mask
from medxai.metrics.probe import Probe
from medxai.metrics.reading import Reading
from medxai.metrics.units import Voxels
from medxai.model.capture import Captured
from medxai.model.footprint import footprint
from medxai.model.guard import seeded
from medxai.model.place import on_image
from medxai.model.scoring import Scorer
from medxai.model.trace import trace
from tests.networks import CONV

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
TARGET, CPU = ClassScore(1), torch.device("cpu")


class Coarse(nn.Module):
    """Bright voxels say yes; the only layer with channels worth a bottleneck has cells of 4 voxels."""

    def __init__(self, ndim: int, channels: int = 1) -> None:
        super().__init__()
        self.edge, self.pool, self.act = CONV[ndim](channels, 4, 3, padding=1), POOL[ndim](4), nn.ReLU()
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.edge.weight.zero_()
            self.edge.bias.zero_()
            self.edge.weight[0] = 1 / (3**ndim * channels)
            self.edge.bias[0] = -0.6
            self.head.weight.zero_()
            self.head.bias.zero_()
            self.head.weight[1, 0] = 50.0

    def forward(self, x):
        cells = self.act(self.pool(self.edge(x).relu()))
        return self.head(cells.flatten(2).mean(2))


def small(ndim, seed, channels=1):
    """Noise below 0.6 with one bright box of 3 voxels, and its mask."""
    draw = torch.Generator().manual_seed(seed)
    size = (24, 28) if ndim == 2 else (16, 16, 20)
    image, mask = torch.rand(channels, *size, generator=draw) * 0.6, torch.zeros(size, dtype=torch.bool)
    corner = [int(torch.randint(4, n - 8, (1,), generator=draw)) for n in size]
    mask[tuple(slice(c, c + 3) for c in corner)] = True
    return image.masked_fill(mask, 1.0)[None], mask


@pytest.mark.parametrize("known", [0.0, 0.3, 0.9])
def test_the_price_is_the_divergence_from_what_passes_both_gates(known):
    torch.manual_seed(0)
    alpha, r = torch.tensor(0.7), torch.tensor(1.3)
    openness = alpha.sigmoid()
    behind = openness * known
    z = openness * r + (1 - openness) * torch.randn(2_000_000, dtype=torch.float64)
    inside = torch.distributions.Normal(openness * r, 1 - openness).log_prob(z)
    prior = torch.distributions.Normal(behind * r, 1 - behind).log_prob(z)
    expected = float((inside - prior).mean())
    gate = Gate.of(alpha.reshape(1, 1, 1, 1), (0.0, 0.0)).beyond(torch.tensor(known))
    assert float(gate.nats(r)) == pytest.approx(expected, abs=5e-3)


@DIMENSIONS
def test_finds_a_target_finer_than_the_cells_that_guide_it(ndim):
    model, (x, mask) = Coarse(ndim).eval(), small(ndim, 0)
    latent, brief = IBA(layer="act", beta=0.1, steps=15, copies=16), {"beta": 1.0, "steps": 20, "copies": 4}
    with seeded(0, CPU):
        guide = latent(model, x, TARGET)
    with seeded(0, CPU):
        found = InputIBA(layer="act", latent=latent, **brief)(model, x, TARGET)
    assert found.layer == ""
    assert found.amount == "bits"
    assert found.status[0].ok
    place = footprint(trace(model, tuple(x.shape)), "act")
    fine, coarse = found.maps[0], on_image(guide.maps[:, None], place, tuple(x.shape[2:]))[0, 0]
    assert overlap(fine, mask) > 0.9
    assert overlap(coarse, mask) < 0.4
    assert mass_in_mask(Reading(fine, mask)) > 2 * mass_in_mask(Reading(coarse, mask))
    assert ehr_mass(Reading(fine, mask)) > 0.6 > 2 * ehr_mass(Reading(coarse, mask))
    step = Perturbation(Voxels(), Constant(0.0))
    restored = [insertion(Probe(one, x[0], Scorer(model, TARGET), perturbation=step)) for one in (fine, coarse)]
    assert restored[0] > restored[1]


def overlap(values, mask):
    """IoU of the mask and as many of the highest voxels."""
    top = values >= values.flatten().topk(int(mask.sum())).values.min()
    return float((top & mask).sum() / (top | mask).sum())


@DIMENSIONS
def test_images_of_several_channels_have_bits_per_voxel(ndim):
    model, (x, mask) = Coarse(ndim, channels=3).eval(), small(ndim, 1, channels=3)
    with seeded(0, CPU):
        latent = IBA(beta=0.1, steps=5, copies=64)
        found = InputIBA(layer="act", latent=latent, beta=1.0, steps=15)(model, x, TARGET)
    assert found.status[0].ok
    assert found.maps.shape == x[:, 0].shape
    assert float(found.maps[0][mask].mean()) > 1.5 * float(found.maps[0][~mask].mean())


def distance(made, real):
    """The energy distance of two samples, which no critic was asked about: 2 E|X - Y| - E|X - X'| - E|Y - Y'|."""
    made, real = made.flatten(1), real.flatten(1)
    inner = sum(float(torch.pdist(some).mean()) for some in (made, real))
    return 2 * float(torch.cdist(made, real).mean()) - inner


@pytest.mark.parametrize("seed", [0, 1])
def test_a_gan_learns_what_passes_the_bottleneck_and_opens_the_pixels_of_the_evidence(seed):
    model, (x, mask) = Coarse(2).eval(), small(2, seed)
    latent, dice = IBA(layer="act", beta=0.1, steps=12, copies=2), torch.Generator().manual_seed(9)
    with one_pass(model, x, [TARGET], ["act"], graph=False) as seen:
        layer, image = (NoisyLayer.of(one, None) for one in (seen.captured[0], Captured(Layer(""), [x])))
        neck = Bottleneck.at(seen, [layer], range(1), seed)
        gate = latent.searched(neck, latent.settings(layer, seen))[0].gate
        place = footprint(trace(model, tuple(x.shape)), "act")
        generator = Generator.of(image, on_image(neck.openness(gate), place, tuple(x.shape[2:])))
        real = layer.passed(gate, layer.features, layer.draw(128, dice)).flatten(0, 2) / layer.std
        told = []
        for gan in (GanPrior(steps=0), GanPrior()):
            gan.train(generator, layer, gate, seen, seed)
            openness = torch.sigmoid(generator.alpha.detach())[0, 0]
            with torch.no_grad():
                made = features_of(generator(128, dice), layer, seen) / layer.std
            told.append((distance(made, real), float(openness[mask].mean() - openness[~mask].mean())))
    (before, flat), (after, sharp) = told
    assert after < 0.75 * before
    assert sharp > 1.1 * flat


def test_with_the_prior_of_a_gan_the_map_lies_on_the_evidence_in_a_batch_as_alone():
    model, shown = Coarse(2).eval(), [small(2, seed) for seed in (0, 1)]
    gan = InputIBA(
        layer="act",
        latent=IBA(beta=0.1, steps=8, copies=1, rate=1.0),
        prior="gan",
        gan=GanPrior(steps=10, critic_steps=2),
        beta=1.0,
        steps=8,
        copies=1,
        rate=1.0,
    )

    def found(method, x):
        with seeded(0, CPU):
            return method(model, x, TARGET).maps

    together = found(gan, torch.cat([x for x, _ in shown]))
    assert all(overlap(one, mask) > 0.9 for one, (_, mask) in zip(together, shown, strict=True))
    x = shown[1][0]
    largest = float(together[1].max())
    torch.testing.assert_close(together[1], found(gan, x)[0], rtol=1e-3, atol=1e-3 * largest)
    assert float((together[1] - found(replace(gan, prior="latent", gan=GanPrior()), x)[0]).abs().max()) > 0.01 * largest


@DIMENSIONS
@pytest.mark.parametrize("mean", [-5.0, 5.0])
def test_a_map_whose_guide_is_degenerate_is_degenerate_and_says_where(mean, ndim):
    x, brief = torch.cat([small(ndim, seed)[0] for seed in (0, 1)]), {"beta": 0.1, "steps": 2, "copies": 2}
    one = torch.ones(4, *[1] * ndim)
    latent = IBA(statistics=FeatureStatistics(mean * one, 0.01 * one, one, 9, "channel", "act"), **brief)
    with seeded(0, CPU):
        found = InputIBA(layer="act", latent=latent, **brief)(Coarse(ndim).eval(), x, TARGET)
    assert (found.details["noise score"] < found.details["clean score"]).all()
    assert (found.details["latent noise score"] > found.details["clean score"]).all() == (mean > 0)
    for status in found.status:
        assert status.reason.startswith("the bottleneck at layer 'act': noise scores above") == (mean > 0)
        assert status.ok == (mean < 0)


@pytest.mark.parametrize("prior", ["latent", "gan"])
def test_an_image_whose_guide_is_degenerate_is_not_searched_in_a_batch_nor_alone(prior):
    """Its own noise would have lowered the score; what the noise of the layer scores lies between the two images."""
    model, bright, sizes = Coarse(2).eval(), small(2, 0)[0] * 1.5, list[int]()
    dim = bright / 1.5
    with torch.no_grad():
        level = float(model(torch.cat([bright, dim]))[:, 1].mean()) / 50
    one = torch.ones(4, 1, 1)
    brief = {"steps": 2, "copies": 2}
    method = InputIBA(
        layer="act",
        latent=IBA(statistics=FeatureStatistics(level * one, 0.01 * one, one, 9, "channel", "act"), **brief),
        statistics=FeatureStatistics(0 * one[:1], 0.1 * one[:1], one[:1], 9, "channel", ""),
        prior=prior,
        gan=GanPrior(steps=1, batch=5) if prior == "gan" else GanPrior(),
        **brief,
    )
    with seeded(0, CPU):
        together = method(model, torch.cat([bright, dim]), TARGET)
    handle = model.edge.register_forward_hook(lambda _module, given, _output: sizes.append(len(given[0])))
    with seeded(0, CPU):
        alone = method(model, dim, TARGET)
    handle.remove()
    assert 5 not in sizes  # no GAN is taught of a gate that is shut
    assert together.status[0].ok
    assert float(together.details["searched"][0]) == float(together.details["latent searched"][0]) == 1
    for found in (together, alone):
        told = {name: float(values[-1]) for name, values in found.details.items() if values.ndim == 1}
        assert found.status[-1].reason.startswith("the bottleneck at layer 'act': noise scores above")
        assert told["noise score"] < told["clean score"] < told["latent noise score"]
        assert told["searched"] == told["latent searched"] == told["bits"] == 0
        assert all(isnan(told[name]) for name in ("beta", "beta found", "converged"))
        assert not found.maps[-1].any()
    with seeded(0, CPU):
        dead, live = replace(method, voxels=1).attribute(model, bright, (ClassScore(0), TARGET))
    assert (dead.status[0].ok, live.status[0].ok) == (False, True)


@pytest.mark.parametrize("latent", [InverseIBA(), InverseRegressionIBA()])
def test_a_bottleneck_that_removes_is_no_guide(latent):
    with pytest.raises(UsageError, match="what passes"):
        InputIBA(latent=latent)


def test_the_critic_reads_nothing_where_the_layer_is_dead():
    """Channels that never fire in the image fire where the generator shows dark voxels, and stand out there."""
    model, (x, mask) = Coarse(2).eval(), small(2, 0)
    with torch.no_grad():
        model.edge.weight[1:3, :, 1, 1] = -3.0
    latent = IBA(layer="act", beta=0.1, steps=12, copies=2)
    opened = []
    for _ in range(2):
        with one_pass(model, x, [TARGET], ["act"], graph=False) as seen:
            layer, image = (NoisyLayer.of(one, None) for one in (seen.captured[0], Captured(Layer(""), [x])))
            neck = Bottleneck.at(seen, [layer], range(1), 0)
            gate = latent.searched(neck, latent.settings(layer, seen))[0].gate
            place = footprint(trace(model, tuple(x.shape)), "act")
            generator = Generator.of(image, on_image(neck.openness(gate), place, tuple(x.shape[2:])))
            assert layer.alive[0, :, 0, 0].tolist() == [1, 0, 0, 0]
            GanPrior().train(generator, layer, gate, seen, 0)
            opened.append(torch.sigmoid(generator.alpha.detach()))
        with torch.no_grad():
            model.edge.weight[1:3] = 0.0  # now they are dead in whatever the generator makes
    torch.testing.assert_close(*opened)
    assert float(opened[0][0, 0][mask].mean()) > 1.1 * float(opened[0][0, 0][~mask].mean())


def test_a_gan_shows_the_network_no_more_than_there_is_room_for():
    model, (x, _), sizes = Coarse(2).eval(), small(2, 0), list[int]()
    brief = {"steps": 2, "copies": 2, "beta": 0.1}
    wide, narrow = (
        InputIBA(
            layer="act",
            latent=IBA(voxels=voxels, **brief),
            prior="gan",
            gan=GanPrior(steps=3),
            voxels=voxels,
            **brief,
        )
        for voxels in (2**21, 4 * x.numel())
    )
    with seeded(0, CPU):
        expected = wide(model, x, TARGET).maps
    handle = model.edge.register_forward_hook(lambda _module, given, _output: sizes.append(len(given[0])))
    with seeded(0, CPU):
        found = narrow(model, x, TARGET)
    handle.remove()
    assert max(sizes) == 4
    assert found.status[0].ok
    assert float(torch.corrcoef(torch.stack([found.maps.flatten(), expected.flatten()]))[0, 1]) > 0.95


def test_settings_of_a_gan_that_train_nothing_are_refused():
    for wrong in ({"steps": -3}, {"batch": 0}, {"clip": 0.0}):
        with pytest.raises(UsageError, match="no training"):
            GanPrior(**wrong)
    with pytest.raises(UsageError, match="No GAN"):
        InputIBA(gan=GanPrior(steps=5))


def test_the_prior_of_a_gan_is_for_two_dimensions_and_no_other_has_a_name():
    with pytest.raises(UsageError, match="images in 2D"):
        InputIBA(layer="act", prior="gan")(Coarse(3).eval(), small(3, 0)[0], TARGET)
    with pytest.raises((UsageError, TypeError), match="prior"):  # run-time types refuse it first
        InputIBA(prior="gam")
