"""Defects of published information bottlenecks, each named after what went wrong there."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from medxai.attribution.bottleneck.iba import IBA, InverseIBA
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.objective import Aim, Objective, Stakes
from medxai.attribution.bottleneck.search import Bottleneck, Settings
from medxai.attribution.passes import one_pass
from medxai.core.target import ClassScore
from medxai.errors import ModelError, NonFiniteError, UsageError
from medxai.metrics.ehr import ehr_mass, ehr_published, ehr_unweighted
from medxai.metrics.reading import Reading
from medxai.model.guard import seeded
from tests.networks import LAYER, images, net, rising

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
BRIEF = {"beta": 0.1, "steps": 5, "copies": 2}


def attributed(model, x, index=1, method=IBA, **settings):
    with seeded(0, x.device):
        return method(**{"layer": LAYER, **BRIEF, **settings})(model, x, ClassScore(index))


@DIMENSIONS
def test_iba_ran_backward_through_the_prefix_and_left_gradients_there(ndim):
    model, x, ran = rising(net(ndim)), images(ndim), list[bool]()
    model[0].register_full_backward_hook(lambda *_: ran.append(True))
    attributed(model, x)
    assert not ran
    assert all(parameter.grad is None for parameter in model.parameters())


@DIMENSIONS
def test_iba_ran_the_whole_network_at_every_step(ndim):
    counts = []
    for steps in (2, 12):
        model, passes = rising(net(ndim)), list[int]()
        convolve = model[0]._conv_forward
        model[0]._conv_forward = lambda *args, passes=passes, convolve=convolve: passes.append(1) or convolve(*args)
        attributed(model, images(ndim), steps=steps)
        counts.append(len(passes))
    assert counts[0] == counts[1] > 0


@DIMENSIONS
def test_iba_clamped_what_passes_at_zero(ndim):
    """At a layer before its ReLU the noise is as often negative, and must stay so."""
    model, least = rising(net(ndim)), list[float]()
    model[4].register_forward_pre_hook(lambda _module, given: least.append(float(given[0].detach().min())))
    attributed(model, images(ndim), layer="3")
    assert min(least) < -0.1


@DIMENSIONS
def test_iba_reported_another_gate_than_its_last(ndim):
    """After one step the published capacity is still that of the gate it started from."""
    model, x = rising(net(ndim)), images(ndim)
    start, one = attributed(model, x, rate=1e-9, steps=1), attributed(model, x, rate=1.0, steps=1)
    assert (one.details["bits"] < 0.9 * start.details["bits"]).all()


@DIMENSIONS
def test_chexplain_punished_findings_that_occur_together(ndim):
    """A one-hot loss over all outputs depends on those that are not explained."""
    model, x = rising(net(ndim)), images(ndim)
    expected = attributed(model, x).maps
    with torch.no_grad():
        model[8].weight[[0, 2]] *= -7
        model[8].bias[[0, 2]] += 5
    assert torch.equal(attributed(model, x).maps, expected)


@pytest.mark.parametrize("aim", ["retain", "logistic", "raise", "lower", "reach", "deviation"])
def test_chexplain_inverse_had_no_lower_bound(aim: Aim):
    stakes = Stakes(torch.tensor([2.0]), torch.tensor([-1.0]), torch.tensor([0.1]))
    objective = Objective(aim, 1.5 if aim == "reach" else None)
    losses = objective.destroy(torch.linspace(-1e4, 1e4, 101)[:, None], stakes)
    assert (losses >= 0).all()
    assert losses.min() < 0.01


@pytest.mark.parametrize("aim", ["raise", "lower"])
def test_chexplain_maximised_the_square_of_a_value_whatever_its_sign(aim: Aim):
    stakes = Stakes(torch.tensor([-2.0]), torch.tensor([1.0]), torch.tensor([0.1]))
    losses = Objective(aim).keep(torch.tensor([[-5.0], [0.0], [5.0]]), stakes)[:, 0]
    assert losses.argsort(descending=aim == "raise").tolist() == [0, 1, 2]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_beta_depended_on_the_unit_of_the_score(scale):
    model, x = rising(net(2)), images(2)
    expected = attributed(model, x).maps
    with torch.no_grad():
        model[8].weight *= scale
        model[8].bias *= scale
    torch.testing.assert_close(attributed(model, x).maps, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


@DIMENSIONS
def test_a_small_beta_vanished_in_the_epsilon_of_adam(ndim):
    """The gradient of a mean over K features shrinks with K; the price alone must still shut the gate."""
    opened = []
    with one_pass(rising(net(ndim)), images(ndim), [ClassScore(1)], [LAYER], graph=False) as seen:
        neck = Bottleneck.at(seen, [NoisyLayer.of(seen.captured[0], None)], range(2), seed=0)
        settings = Settings(20, 1.0, 2, (1.0,) * ndim)
        for one in (settings, replace(settings, epsilon=1e-8)):
            found = neck.search(lambda score, _stakes: 0 * score, torch.full((2,), 1e-10), one)
            opened.append(float(found.gate.openness.mean()))
    assert opened[0] < 0.01
    assert opened[1] > 0.9


@DIMENSIONS
@pytest.mark.parametrize(("method", "beta", "did"), [(IBA, 10.0, "kept"), (InverseIBA, 30.0, "removed")])
def test_published_settings_broke_the_decision_unnoticed(method, beta, did, ndim):
    said = f"beta {beta} {did} less than 0.9 of the score: 'auto' seeks one that does"
    for price in (beta, 1e-3):
        found = attributed(rising(net(ndim)), images(ndim), method=method, beta=price, steps=60)
        assert (found.details["enough"] == (price < 1)).all()
        assert (said in found.notices) == (price > 1)
        assert any("less than" in one for one in found.notices) == (price > 1)
        assert found.status[0].ok


@pytest.mark.parametrize("beta", [1.1e9, 1e24, 1e30, 1e39])
def test_a_huge_beta_overflowed_in_adam_and_opened_the_gates(beta):
    with pytest.raises(UsageError, match="beta from 0 to 1e9"):
        IBA(beta=beta)
    shut = attributed(rising(net(2)), images(2), beta=1e9, steps=30)
    assert (shut.details["retained"] < 0.05).all()


@DIMENSIONS
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_price_that_kept_too_little_passed_for_the_price_that_was_sought(seeds, ndim):
    model, x, brief = rising(net(ndim)), images(ndim), {"steps": 6, "rate": 2.0, "copies": 2, "seeds": seeds}
    clean = float(model.eval()(x)[0, 1].detach())
    for goal, found in ((clean, True), (100 * clean, False)):
        told = attributed(model, x, beta="auto", aim="reach", value=goal, retention=0.8, voxels=x.numel(), **brief)
        assert (told.details["beta found"] == found).all()
        assert ("no price tried kept 0.8 of the score: the cheapest tried is shown" in told.notices) == (not found)
        assert (told.details["beta"] > 1.1e-3).all() == found


class OneCell(nn.Module):
    """One feature of many is all that the score reads."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        cell = self.layer(x)[(slice(None), 0, *[2] * (x.ndim - 2))]
        return torch.stack([-cell, cell], 1)


@pytest.fixture
def searches(monkeypatch):
    """The prices that were searched."""
    tried, search = list[float](), Bottleneck.search
    monkeypatch.setattr(
        Bottleneck,
        "search",
        lambda self, loss, beta, *more: tried.append(float(beta[0])) or search(self, loss, beta, *more),
    )
    return tried


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_price_that_a_mean_over_many_features_spreads_thin_was_never_found(ndim, searches):
    """The bracket ended at 1000, where one cell of 8192 still costs too little to shut."""
    x = torch.randn(1, 1, *{2: (64, 128), 3: (16, 16, 32)}[ndim], generator=torch.Generator().manual_seed(0))
    x[(0, 0, *[2] * ndim)] = 3.0
    brief = {"layer": "layer", "sigma": 0.0, "retention": 0.4, "steps": 20, "rate": 1.0}
    found = attributed(OneCell().eval(), x, beta="auto", **brief)
    assert float(found.details["beta"]) > 1e3
    assert float(found.details["beta found"]) == float(found.details["enough"]) == 1
    assert len(searches) == 13
    dearer = attributed(OneCell().eval(), x, beta=1.25 * float(found.details["beta"]), **brief)
    assert float(dearer.details["enough"]) == 0
    searches.clear()
    attributed(rising(net(ndim)), images(ndim), beta="auto", steps=20)
    assert len(searches) == 7


def test_the_dearest_price_that_kept_too_much_passed_for_the_largest_that_keeps_enough(searches):
    told = attributed(rising(net(2)), images(2), beta="auto", rate=1e-9, retention=0.5)
    assert max(searches) == pytest.approx(10 ** (9 - 6.1 / 64), rel=0.1)
    assert (told.details["retained"] > 0.9).all()
    assert (told.details["enough"] == 1).all()
    assert (told.details["beta found"] == 0).all()
    assert "every price tried kept 0.5 of the score: the dearest tried is shown" in told.notices


def test_one_image_that_needs_dearer_prices_moved_the_others():
    x = torch.randn(2, 1, 64, 128, generator=torch.Generator().manual_seed(0))
    x[:, 0, 2, 2] = torch.tensor([3.0, 30.0])
    brief = {"layer": "layer", "beta": "auto", "sigma": 0.0, "retention": 0.4, "steps": 20, "rate": 1.0}
    both, alone = (attributed(OneCell().eval(), some, **brief) for some in (x, x[1:]))
    assert both.details["beta"][0] > 1e3 > both.details["beta"][1] == alone.details["beta"][0]


@DIMENSIONS
def test_the_inverse_that_removed_too_little_says_so(ndim):
    told = attributed(rising(net(ndim)), images(ndim), beta="auto", method=InverseIBA, rate=1e-9, retention=1.0)
    assert any("no price tried removed 1 of" in one for one in told.notices)


@DIMENSIONS
@pytest.mark.parametrize("aim", ["retain", "deviation", "logistic", "lower"])
def test_a_score_that_noise_raised_was_searched_for_what_keeps_it_low(aim: Aim, ndim):
    model, x, passes = rising(net(ndim)), images(ndim), list[int]()
    with torch.no_grad():
        model[8].weight.neg_()
    model[8].register_full_backward_hook(lambda *_: passes.append(1))
    found = attributed(model, x, aim=aim)
    assert (found.details["noise score"] > found.details["clean score"]).all()
    searched = aim == "lower"
    assert bool(passes) == searched
    assert bool(found.maps.any()) == searched
    assert (found.details["bits"] > 0).all() == searched
    assert all(one.ok for one in found.status) == searched
    assert all("noise scores above the image" in one.reason for one in found.status) != searched


def test_a_price_was_sought_for_a_score_that_is_not_searched():
    model, x, counts = rising(net(2)), images(2), []
    with torch.no_grad():
        model[8].weight.neg_()
    for beta in (0.1, "auto"):
        rows = list[int]()
        handle = model[8].register_forward_hook(lambda _module, given, _output, rows=rows: rows.append(len(given[0])))
        attributed(model, x, beta=beta)
        handle.remove()
        counts.append(sum(rows))
    assert counts[0] == counts[1]


@DIMENSIONS
def test_a_sigma_of_too_few_or_too_many_axes_was_taken(ndim):
    for wrong in ({"sigma": (1.0,)}, {"sigma_voxels": (1.0,) * (ndim + 1)}):
        with pytest.raises(UsageError, match=f"Each axis has one sigma. Expected {ndim}"):
            attributed(rising(net(ndim)), images(ndim), **wrong)
    with pytest.raises(UsageError, match="smoothed once"):
        IBA(sigma_voxels=2.0, sigma_mm=3.0)


def test_nan_was_blanked_to_nothing():
    with one_pass(rising(net(2)), images(2), [ClassScore(1)], [LAYER], graph=False) as seen:
        neck = Bottleneck.at(seen, [NoisyLayer.of(seen.captured[0], None)], range(2), seed=0)
        with pytest.raises(NonFiniteError, match="not finite"):
            neck.search(lambda score, _stakes: score * torch.nan, torch.ones(2), Settings(3, 1.0, 2, (1.0, 1.0)))


def test_the_inverse_kept_no_account_of_what_was_left():
    model, x = rising(net(2)), images(2)
    for method in (IBA, InverseIBA):
        found = attributed(model, x, method=method, steps=40)
        told = found.details
        assert {"clean score", "noise score", "bottleneck score", "complement score", "retained"} <= set(told)
        assert {"bits", "beta", "converged", "loss"} <= set(told)
        assert told["loss"].shape == (2, 40)
        assert (told["loss"][:, -1] < told["loss"][:, 0]).all()


class Root(nn.Module):
    """A score that noise takes out of its domain."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        mean = self.layer(x).flatten(2).mean(2)
        return torch.cat([mean, (mean - 0.3).sqrt()], 1)


@DIMENSIONS
@pytest.mark.parametrize("method", [IBA, InverseIBA])
def test_an_answer_to_noise_that_is_no_number_was_called_a_zero_map(method, ndim):
    found = attributed(Root().eval(), images(ndim), method=method, layer="layer")
    assert [one.reason for one in found.status] == ["what the network answers to noise is not finite"] * 2
    assert not found.maps.any()


@DIMENSIONS
@pytest.mark.parametrize("layer", ["auto", LAYER])
def test_an_image_without_its_batch_ended_in_an_error_of_torch(layer, ndim):
    for wrong in (images(ndim)[0], images(ndim).expand(-1, 4, *[-1] * ndim)):
        with pytest.raises(ModelError, match="The network cannot read this image"):
            attributed(rising(net(ndim)), wrong, layer=layer)


@pytest.mark.parametrize("metric", [ehr_published, ehr_unweighted, ehr_mass])
def test_the_heat_ratio_depended_on_the_scale_changed_the_map_and_took_four_columns_for_boxes(metric):
    """A map whose maximum is below 0.1 ended in an IndexError."""
    heat = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(8, 4, dtype=torch.bool)
    mask[2:5, 1:3] = True
    given = heat.clone()
    expected = metric(Reading(given, mask))
    assert torch.equal(given, heat)
    assert 0 < expected < 1
    for scale in (0.5, 0.12, 0.01):
        assert metric(Reading(heat * scale, mask)) == pytest.approx(expected, rel=1e-5)
    assert metric(Reading(heat.T.contiguous(), mask.T.contiguous())) == pytest.approx(expected)
