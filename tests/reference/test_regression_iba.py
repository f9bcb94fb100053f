"""Bottlenecks of a regressor whose value is known region by region: how many bits, and in which direction."""

import pytest
import torch
from torch import nn

from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.regression import InverseRegressionIBA, RegressionIBA
from medxai.attribution.bottleneck.search import Bottleneck, Settings
from medxai.attribution.passes import one_pass
from medxai.core.target import RegressionScore
from medxai.errors import UsageError
from medxai.model.guard import seeded
from tests.networks import CONV

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
MILD, SEVERE, HEALING, WORST = range(4)
SEVERITIES = (0.1, 0.3, -0.2, 0.45)


class Severity(nn.Module):
    """What is brighter than tissue raises the value, what is darker lowers it."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.features, self.act = CONV[ndim](1, 2, 3, padding=1, padding_mode="replicate"), nn.ReLU()
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, *[1] * ndim) / 3**ndim)
            self.features.bias.copy_(torch.tensor([-0.5, 0.5]))

    def forward(self, x):
        raised, lowered = self.act(self.features(x)).flatten(2).sum(2).unbind(1)
        return (raised - lowered)[:, None]


def place(ndim, region):
    middle = (slice(4, 9),) if ndim == 2 else (slice(2, 7), slice(3, 8))
    return (..., *middle, slice(3 + 10 * region, 8 + 10 * region))


def patient(ndim):
    """Tissue of brightness 0.5 with four regions as bright as they are severe; one is darker than tissue."""
    size = (12, 40) if ndim == 2 else (8, 10, 40)
    image = 0.5 + 0.02 * torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(7))
    for region, severity in enumerate(SEVERITIES):
        image[place(ndim, region)] += severity
    return image


def explained(ndim, method, sign=1, **settings):
    with seeded(0, torch.device("cpu")):
        chosen = method(**{"layer": "act", "steps": 20, **settings})
        return chosen(Severity(ndim).eval(), patient(ndim), RegressionScore(sign=sign))


def regions(ndim, found):
    return [float(found.maps[0][place(ndim, region)[1:]].sum()) for region in range(4)]


@DIMENSIONS
@pytest.mark.parametrize("method", [RegressionIBA, InverseRegressionIBA])
def test_bits_order_the_regions_by_severity(method, ndim):
    found = explained(ndim, method)
    bits = regions(ndim, found)
    assert found.status[0].ok
    assert 0 < bits[MILD] < bits[SEVERE] / 3 < bits[WORST]
    assert bits[HEALING] < 0
    assert sum(bits) > 0.75 * float(found.details["bits"][0])
    kept, left = (float(found.details[name][0]) for name in ("bottleneck score", "complement score"))
    clean = float(found.details["clean score"][0])
    assert kept > 0.85 * clean
    assert left < 0.15 * clean


@DIMENSIONS
def test_what_raises_and_what_lowers_are_different_regions(ndim):
    raising, lowering = (explained(ndim, RegressionIBA, aim=aim) for aim in ("raise", "lower"))
    for found, opened in ((raising, (MILD, SEVERE, WORST)), (lowering, (HEALING,))):
        bits = [abs(amount) for amount in regions(ndim, found)]
        shut = [bits[region] for region in range(4) if region not in opened]
        assert min(bits[region] for region in opened) > 50 * max(shut)
    assert min(regions(ndim, raising)[region] for region in (MILD, SEVERE, WORST)) > 0
    assert regions(ndim, lowering)[HEALING] < 0
    clean = float(raising.details["clean score"][0])
    assert float(raising.details["bottleneck score"][0]) > clean
    assert float(lowering.details["bottleneck score"][0]) < 0


@DIMENSIONS
def test_a_value_is_reached(ndim):
    clean = float(Severity(ndim)(patient(ndim)).detach())
    for value in (0.5 * clean, 1.15 * clean):
        found = explained(ndim, RegressionIBA, aim="reach", value=value, steps=60)
        assert float(found.details["bottleneck score"][0]) == pytest.approx(value, rel=0.11)


@pytest.mark.parametrize("method", [RegressionIBA, InverseRegressionIBA])
def test_the_map_of_minus_the_value_is_minus_the_map(method):
    for aim, opposite in (("deviation", "deviation"), ("raise", "lower"), ("lower", "raise")):
        found, mirrored = explained(2, method, aim=aim, beta=0.3), explained(2, method, -1, aim=opposite, beta=0.3)
        torch.testing.assert_close(found.maps, -mirrored.maps, rtol=1e-4, atol=1e-5)
        assert found.maps.any() or method is InverseRegressionIBA


@DIMENSIONS
def test_contributions_add_up_to_what_the_features_do(ndim):
    model, image = Severity(ndim).eval(), patient(ndim)
    with one_pass(model, image, [RegressionScore()], ["act"], graph=False) as seen:
        neck = Bottleneck.at(seen, [NoisyLayer.of(seen.captured[0], None)], range(1), seed=3)
        parts = neck.contributions(Settings(1, 1.0, copies=32, sigma=(0.0,) * ndim), levels=16)
    assert float(parts.sum()) == pytest.approx(float(seen.scores[0]), rel=0.03)


@pytest.mark.parametrize("wrong", [{"aim": "reach"}, {"value": 2.0}, {"steps": 0}, {"seeds": 0}, {"beta": -1.0}])
def test_a_search_that_is_not_defined_is_refused_at_once(wrong):
    with pytest.raises(UsageError):
        RegressionIBA(**wrong)


@pytest.mark.parametrize("aim", ["raise", "lower"])
def test_a_given_price_of_an_endless_aim_is_not_told_to_be_enough(aim):
    given, sought = (explained(2, RegressionIBA, aim=aim, beta=beta) for beta in (0.3, "auto"))
    assert bool(given.details["enough"].isnan().all())
    assert not bool(sought.details["enough"].isnan().any())
