"""One gate on several layers: what passes is derived again by hand; evidence is found at the cells of the first."""

from math import log

import pytest
import torch
from torch import nn

from medxai.attribution.bottleneck.co_iba import CoIBA
from medxai.attribution.bottleneck.gate import Gate
from medxai.attribution.bottleneck.iba import IBA, InverseIBA
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.objective import Objective
from medxai.attribution.bottleneck.search import Bottleneck, Settings
from medxai.attribution.bottleneck.statistics import estimate
from medxai.attribution.combined import ALONE
from medxai.attribution.passes import one_pass
from medxai.core.target import ClassScore
from medxai.errors import UsageError
from medxai.model.footprint import sited
from medxai.model.guard import seeded
from medxai.model.place import between
from tests.networks import images, net, rising
from tests.reference.test_bottleneck import Redundant, cues

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
LAYERS, TARGET, CPU, SEED = ("2", "4"), ClassScore(1), torch.device("cpu"), 5
BRIEF = {"beta": 0.1, "steps": 4, "copies": 1}
POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def attributed(method, model, x):
    with seeded(0, CPU):
        return method(model, x, TARGET)


@DIMENSIONS
def test_both_layers_pass_what_the_one_gate_lets_pass_each_with_its_own_noise(ndim):
    model, x = rising(net(ndim)).eval(), images(ndim, 1)
    first, second = known = [estimate(model, [0.3 * images(ndim, 8)], layer) for layer in LAYERS]
    with one_pass(model, x, [TARGET], LAYERS, graph=False) as seen:
        sites = sited(seen.network, tuple(one.layer for one in seen.captured), tuple(x.shape))
        rows = zip(sites, seen.captured, known, strict=True)
        layers = [NoisyLayer(site, one.activation.detach(), (of,)) for site, one, of in rows]
        found = Bottleneck.at(seen, layers, range(1), SEED).search(
            Objective().keep, torch.tensor([0.01]), Settings(10, 1.0, 8, (1.0,) * ndim, shared=True)
        )
    features, openness = layers[0].features, found.gate.openness
    assert openness.shape == (1, 1, *x.shape[2:])
    assert float(openness.max() - openness.min()) > 0.05
    on_second = between(openness, sites[0].footprint, sites[1].footprint, tuple(x.shape[2:]))
    assert on_second.shape[2:] != openness.shape[2:]
    dice = torch.Generator().manual_seed(SEED + 1)
    drawn = [torch.randn(8, *layer.features.shape[1:], generator=dice) for layer in layers]
    scores = []
    with torch.no_grad():
        for one, other in zip(*drawn, strict=True):
            passed = openness * features + (1 - openness) * (first.mean + first.spread * one) * first.alive
            made = model[3:5](passed)
            passed = on_second * made + (1 - on_second) * (second.mean + second.spread * other) * second.alive
            scores.append(model[5:](passed)[0, 1])
    assert float(found.kept) == pytest.approx(float(torch.stack(scores).mean()), rel=1e-4)
    nats = (Gate(openness, 1 - openness).nats(first.normal(features)) * first.alive).sum()
    assert float(found.bits.sum()) == pytest.approx(float(nats) / log(2), rel=1e-3)


@DIMENSIONS
@pytest.mark.parametrize("method", [IBA, InverseIBA])
def test_of_one_layer_it_is_the_bottleneck_there_and_says_so(method, ndim):
    model, x = rising(net(ndim)), images(ndim)
    alone = attributed(method(layer="2", shared_channels=True, **BRIEF), model, x)
    found = attributed(CoIBA(method=method(**BRIEF), layers=("2",)), model, x)
    several = attributed(CoIBA(method=method(**BRIEF), layers=LAYERS), model, x)
    assert torch.equal(found.maps, alone.maps)
    assert not torch.equal(found.maps, several.maps)
    assert ALONE in found.notices
    assert ALONE not in several.notices


@DIMENSIONS
def test_no_price_opens_the_gate_and_a_high_price_shuts_it(ndim):
    methods = (IBA(beta=beta, steps=8, copies=1, rate=2.0) for beta in (1e-6, 1e6))
    model, x = rising(net(ndim)), images(ndim)
    free, dear = (attributed(CoIBA(method=method, layers=LAYERS), model, x) for method in methods)
    assert (free.details["retained"] > 0.95).all()
    assert (dear.details["retained"] < 0.2).all()
    assert (free.details["bits"] > 100 * dear.details["bits"]).all()


class Stacked(Redundant):
    """Bright voxels say yes, in a layer as fine as the image and in one of cells of two voxels."""

    def __init__(self, ndim: int) -> None:
        super().__init__(ndim)
        self.pool = POOL[ndim](2)

    def forward(self, x):
        score = 6 * torch.tanh(self.pool(self.act(self.features(x))).flatten(1).sum(1)) - 3
        return torch.stack([-score, score], 1)


@DIMENSIONS
def test_evidence_is_found_at_the_cells_of_the_first_layer(ndim):
    model, x, layers = Stacked(ndim).eval(), cues(ndim, ("left",), 3), ("act", "pool")
    cohort = [cues(ndim, ((), ("left",), ("right",), ())[i % 4], 100 + i) for i in range(16)]
    known = tuple(estimate(model, cohort, layer, "element") for layer in layers)
    method = IBA(beta=1.0, steps=12, copies=2, rate=1.0)
    found, mask = attributed(CoIBA(method=method, layers=layers, statistics=known), model, x), x[0, 0] == 1
    assert (found.layer, found.amount, found.maps.shape[1:]) == ("act", "bits", mask.shape)
    assert found.status[0].ok
    assert float(found.maps[0][mask].sum() / found.maps.sum()) > 0.95
    assert float(found.details["retained"]) > 0.85
    assert float(found.details["complement score"]) < float(found.details["noise score"]) + 0.3


@pytest.mark.parametrize("layers", [("4", "2"), ("2", "2")], ids=["backwards", "the same"])
def test_a_layer_that_the_gate_cannot_reach_is_refused(layers):
    with pytest.raises(UsageError, match="does not follow"):
        attributed(CoIBA(method=IBA(**BRIEF), layers=layers), rising(net(2)), images(2))


def test_statistics_are_those_of_every_layer_or_of_none():
    model, x = rising(net(2)).eval(), images(2)
    known = tuple(estimate(model, [images(2, 8)], layer) for layer in LAYERS)
    found = attributed(CoIBA(method=IBA(**BRIEF), layers=LAYERS, statistics=known), model, x)
    assert not torch.equal(found.maps, attributed(CoIBA(method=IBA(**BRIEF), layers=LAYERS), model, x).maps)
    with pytest.raises(UsageError, match="its own noise"):
        CoIBA(layers=LAYERS, statistics=known[:1])
    with pytest.raises(UsageError, match="its own noise"):
        CoIBA(layers=LAYERS, method=IBA(statistics=known[0]))
