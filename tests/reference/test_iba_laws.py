"""What holds for a bottleneck in any network: limits of beta, seeds, targets, tokens, millimetres, half precision."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.networks.nets import ViT
from torch import nn

from medxai.attribution.bottleneck.co_iba import CoIBA
from medxai.attribution.bottleneck.gate import Gate, smooth
from medxai.attribution.bottleneck.iba import IBA, InverseIBA
from medxai.attribution.bottleneck.input_iba import InputIBA
from medxai.attribution.bottleneck.multi_layer import MultiLayerIBA
from medxai.attribution.bottleneck.regression import RegressionIBA
from medxai.attribution.bottleneck.statistics import estimate
from medxai.core.target import ClassScore
from medxai.errors import UsageError
from medxai.explanation import explain
from medxai.io.recipe import Recipe
from medxai.model.guard import seeded
from medxai.model.resume import resumable
from tests.end_to_end.test_masking_methods import case
from tests.networks import LAYER, images, net, rising
from tests.transformers import Swin

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
BRIEF = {"steps": 6, "copies": 2}


def attributed(method, model, x, *targets):
    with seeded(0, x.device):
        return method.attribute(model, x, targets or (ClassScore(1),))


@DIMENSIONS
@pytest.mark.parametrize("method", [IBA, InverseIBA])
def test_no_price_opens_every_gate_and_a_high_price_shuts_them(method, ndim):
    free, dear = (
        attributed(method(layer=LAYER, beta=beta, steps=40, copies=2, rate=1.0), rising(net(ndim)), images(ndim))[0]
        for beta in (1e-6, 1e6)
    )
    assert (free.details["retained"] > 0.95).all()
    assert (dear.details["retained"] < 0.2).all()
    assert (free.details["bits"] > 100 * dear.details["bits"]).all()


@DIMENSIONS
def test_targets_together_equal_one_at_a_time_and_cost_a_forward_row_each(ndim):
    model, x, rows = rising(net(ndim)), images(ndim), list[int]()
    method, goals = IBA(layer=LAYER, beta=0.1, **BRIEF), [ClassScore(c) for c in range(3)]
    handle = model[8].register_forward_hook(lambda _module, given, _output: rows.append(len(given[0])))
    together = attributed(method, model, x, *goals)
    many, rows[:] = sum(rows), []
    alone = [attributed(method, model, x, goal)[0] for goal in goals]
    handle.remove()
    assert many < sum(rows)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.maps, other.maps, rtol=1e-4, atol=1e-5 * float(other.maps.max()))


@DIMENSIONS
def test_memory_bound_changes_nothing_and_is_kept(ndim):
    model, x, sizes = rising(net(ndim)), images(ndim, 4), list[int]()
    goals = [ClassScore(c) for c in range(3)]
    wide = attributed(IBA(layer=LAYER, beta=0.1, **BRIEF), model, x, *goals)
    handle = model[8].register_forward_hook(lambda _module, given, _output: sizes.append(len(given[0])))
    room = 4 * max(x[0].numel(), 6 * wide[0].maps[0].numel())
    narrow = attributed(IBA(layer=LAYER, beta=0.1, voxels=room, **BRIEF), model, x, *goals)
    handle.remove()
    assert max(sizes) == 4
    for one, other in zip(wide, narrow, strict=True):
        torch.testing.assert_close(one.maps, other.maps, rtol=1e-4, atol=1e-5 * float(other.maps.max()))


@DIMENSIONS
def test_seeds_tell_how_far_they_differ(ndim):
    model, x = rising(net(ndim)), images(ndim)
    found = attributed(IBA(layer=LAYER, beta=0.1, seeds=3, **BRIEF), model, x)[0]
    assert found.details["map std"].shape == found.maps.shape
    assert (found.details["bits std"] > 0).all()
    assert (found.details["bits std"] < 0.2 * found.details["bits"]).all()
    with seeded(0, x.device):
        singly = [IBA(layer=LAYER, beta=0.1, **BRIEF)(model, x, ClassScore(1)).maps for _ in range(3)]
    torch.testing.assert_close(found.maps, torch.stack(singly).mean(0))
    torch.testing.assert_close(found.details["map std"], torch.stack(singly).std(0))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("method", [IBA, InverseIBA, InputIBA, RegressionIBA])
def test_what_scores_below_noise_has_no_evidence_unless_the_map_has_a_sign(method, sign):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    model[0].weight.data.fill_(1.0)
    model[4].weight.data.fill_(sign)
    found = attributed(method(layer="1", beta=0.1, **BRIEF), model.eval(), images(2))[0]
    assert ((found.details["noise score"] > found.details["clean score"]) == (sign < 0)).all()
    signed = method is RegressionIBA
    assert all("noise scores above the image" in str(one) for one in found.status) == (sign < 0 and not signed)
    assert all(one.ok for one in found.status) == (sign > 0 or signed)
    for name in ("beta", "beta found", "converged"):
        assert bool(found.details[name].isnan().all()) == (sign < 0 and not signed)
    assert any("statistics" in one for one in found.notices) == (sign < 0 and not signed)
    assert ((found.maps.sum((1, 2)) < 0) == (sign < 0 and signed)).all()


@DIMENSIONS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_brings_no_infinity(ndim, dtype):
    model = rising(net(ndim)).to(dtype)
    found = attributed(IBA(layer=LAYER, beta=1e-6, steps=40, rate=2.0, copies=1), model, images(ndim).to(dtype))[0]
    assert found.maps.isfinite().all()
    assert found.maps.dtype == torch.float32


@DIMENSIONS
def test_several_images_are_held_as_if_each_were_alone(ndim):
    model, x = rising(net(ndim)).eval(), images(ndim, 3)
    with torch.no_grad():
        held = resumable(model, LAYER, x)
        changed = torch.cat([held.activation * scale for scale in (1.0, 0.5)])
        together = held(changed).reshape(2, 3, -1)
        for i in range(3):
            alone = resumable(model, LAYER, x[i : i + 1])
            torch.testing.assert_close(together[:, i], alone(changed.reshape(2, 3, *changed.shape[1:])[:, i]))
    assert held.full == ""


class First:
    """The first class of a model that answers logits and hidden states."""

    def __call__(self, output):
        return output[0][:, 0]


@DIMENSIONS
def test_the_class_token_is_left_clean(ndim):
    torch.manual_seed(0)
    model = ViT(
        1, (32,) * ndim, 8, hidden_size=24, mlp_dim=48, num_layers=2, num_heads=2, classification=True, num_classes=3,
        spatial_dims=ndim,
    ).eval()  # fmt: skip
    x = torch.rand(2, 1, *(32,) * ndim, generator=torch.Generator().manual_seed(1))
    given: list[torch.Tensor] = []
    with torch.no_grad():
        clean = model.blocks[0](torch.cat([model.cls_token.expand(2, -1, -1), model.patch_embedding(x)], 1))
    handle = model.blocks[1].register_forward_pre_hook(lambda _module, args: given.append(args[0].detach()))
    found = attributed(IBA(layer="blocks.0", beta=0.1, **BRIEF), model, x, First())[0]
    handle.remove()
    assert found.maps.shape == (2, *(4,) * ndim)
    tokens = torch.cat([one.reshape(-1, 2, *one.shape[1:]) for one in given if len(one) % 2 == 0])
    repeats = [one for one in tokens if not torch.allclose(one[:, 1:], clean[:, 1:], atol=1e-4)]
    noisy = [one for one in repeats if torch.allclose(one[:, 0], clean[:, 0], atol=1e-5)]
    assert len(noisy) >= len(repeats) - 1  # the network is once shown another image, to test the replay
    assert len(noisy) > BRIEF["steps"]


def test_channels_last_of_swin():
    x = torch.rand(1, 1, 48, 32, generator=torch.Generator().manual_seed(1))
    found = attributed(IBA(layer="layers.0", beta=0.1, **BRIEF), Swin(), x)[0]
    assert found.maps.shape == (1, 12, 8)
    assert (found.maps > 0).any()


def explained(method, ndim):
    return explain(rising(net(ndim)), case(ndim), method, ClassScore(1), Recipe("as is", ()), device="cpu", seed=3).data


@DIMENSIONS
def test_millimetres_become_cells_along_each_axis(ndim):
    """6 mm over a spacing of 1.5, 2 and 3 mm, and a stride of 2."""
    method = IBA(layer=LAYER, beta=0.1, **BRIEF)
    found = explained(replace(method, sigma_mm=6.0), ndim)
    assert torch.equal(found, explained(replace(method, sigma=(2.0, 1.5, 1.0)[:ndim]), ndim))
    assert not torch.allclose(found, explained(method, ndim))


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("spacing", [(0.7, 0.7, 5.0), (0.8, 0.8), (1.0, 1.5, 2.0)])
def test_an_impulse_spreads_by_the_millimetres_that_were_asked(spacing, stride):
    """Within an eighth where sigma is at least one cell; not at all below 0.3 cells, rather than a little."""
    sizes, asked = [size * stride for size in spacing], 4.0
    impulse = torch.zeros(1, 1, *[41] * len(sizes))
    impulse[(0, 0, *[20] * len(sizes))] = 1.0
    kernel = smooth(impulse, [asked / size for size in sizes])[0, 0]
    cells = torch.arange(41) - 20.0
    for axis, size in enumerate(sizes):
        along = kernel.sum([other for other in range(len(sizes)) if other != axis])
        spread = size * float((along * cells**2).sum().sqrt())
        if asked >= size:
            assert 0.875 * asked <= spread <= 1.01 * asked
        else:
            assert (spread == 0) == (asked < 0.3 * size)


def test_axes_that_are_too_thick_to_smooth_are_told():
    method = IBA(layer=LAYER, beta=0.1, **BRIEF)
    said = "sigma is below 0.3 cells along axis 1 and 2: the gate is not smoothed there"
    guided = InputIBA(layer=LAYER, latent=replace(method, sigma_voxels=(2.0, 0.5, 0.5)), sigma=0.0, beta=0.1, **BRIEF)
    x = images(3)
    assert said in attributed(replace(method, sigma=(1.0, 0.2, 0.29)), rising(net(3)), x)[0].notices
    assert said in attributed(replace(method, sigma_voxels=(2.0, 0.5, 0.5)), rising(net(3)), x)[0].notices
    assert f"the bottleneck at layer '4': {said}" in attributed(guided, rising(net(3)), x)[0].notices
    for enough in ({"sigma": (1.0, 0.0, 0.3)}, {"sigma_voxels": 1.0}):
        assert not any("smoothed" in one for one in attributed(replace(method, **enough), rising(net(3)), x)[0].notices)


@DIMENSIONS
@pytest.mark.parametrize("several", [MultiLayerIBA, CoIBA])
def test_millimetres_become_cells_of_each_of_several_layers(several, ndim):
    smoothed, method = list[tuple[float, ...]](), IBA(beta=0.1, sigma_mm=6.0, **BRIEF)
    with pytest.MonkeyPatch.context() as patch:
        of = Gate.of
        patch.setattr(Gate, "of", lambda alpha, sigma: smoothed.append(tuple(sigma)) or of(alpha, sigma))
        explained(several(method=method, layers=("2", LAYER)), ndim)
    fine, coarse = (4.0, 3.0, 2.0)[:ndim], (2.0, 1.5, 1.0)[:ndim]
    assert set(smoothed) == ({fine, coarse} if several is MultiLayerIBA else {fine})


@DIMENSIONS
def test_millimetres_become_voxels_of_the_image_and_cells_of_the_layer_that_guides(ndim):
    latent = IBA(beta=0.1, **BRIEF)
    found = explained(
        InputIBA(layer=LAYER, beta=0.1, **BRIEF, sigma_mm=3.0, latent=replace(latent, sigma_mm=6.0)), ndim
    )
    cells = (2.0, 1.5, 1.0)[:ndim]  # 3 mm over the spacing, and 6 mm over that and a stride of 2
    same = InputIBA(layer=LAYER, beta=0.1, **BRIEF, sigma=cells, latent=replace(latent, sigma=cells))
    assert torch.equal(found, explained(same, ndim))


def test_millimetres_need_a_case_and_say_so():
    with pytest.raises(UsageError, match=r"medxai\.explain"):
        attributed(MultiLayerIBA(method=IBA(sigma_mm=6.0), layers=("2", LAYER)), rising(net(2)), images(2))


def test_the_noise_that_was_used_is_in_the_provenance():
    model, layers = rising(net(2)).eval(), ("2", LAYER)
    known = tuple(estimate(model, [images(2, 8)], layer) for layer in layers)
    brief = IBA(beta=0.1, **BRIEF)
    for method, stated in (
        (replace(brief, layer=LAYER), None),
        (replace(brief, layer=LAYER, statistics=known[1]), repr(known[1])),
        (CoIBA(method=brief, layers=layers, statistics=known), [repr(one) for one in known]),
    ):
        found = explain(model, case(2), method, ClassScore(1), Recipe("as is", ()), device="cpu")
        parameters = json.loads(json.dumps(found.provenance.as_dict()["parameters"]))
        assert parameters["statistics"] == stated
    assert f"per channel, 8 images, sha256 {known[1].digest[:16]}" in repr(known[1])
    assert parameters["method"]["name"] == "IBA"


@DIMENSIONS
def test_a_search_that_was_cut_short_is_not_called_converged(ndim):
    """Converged: over the last fifth of the steps the information moved by less than a twentieth."""
    model, x = rising(net(ndim)), images(ndim)
    for steps, expected in ((20, 0.0), (200, 1.0)):
        method = IBA(layer=LAYER, beta=0.1, copies=4, steps=steps, rate=0.1)
        found = attributed(method, model, x)[0]
        assert (found.details["converged"] == expected).all()
        said = f"the search had not settled after {steps} steps: take more `steps`"
        assert (said in found.notices) == (expected == 0)
    guided = InputIBA(layer=LAYER, beta=0.1, copies=4, steps=7, latent=replace(method, steps=20))
    assert {
        "the search had not settled after 7 steps: take more `steps`",
        f"the bottleneck at layer {LAYER!r}: the search had not settled after 20 steps: take more `steps`",
    } <= set(attributed(guided, model, x)[0].notices)


def test_statistics_of_a_cohort_show_how_far_they_are(capfd):
    model, batches = net(2), [images(2) for _ in range(3)]
    watched, quiet = (estimate(model, batches, LAYER, progress=progress) for progress in (True, False))
    assert watched == quiet
    shown = capfd.readouterr()
    assert "100%" in shown.err
    assert shown.out == ""


def test_seeds_that_disagree_on_what_there_is_to_search_have_no_map():
    """Eight draws of noise lie apart from the score with some seeds and not with others: their mean means nothing."""
    scores = {"clean score": torch.ones(3), "noise score": torch.zeros(3), "effect": torch.ones(3)}
    found = IBA(seeds=4).judged(torch.rand(3, 4, 4), {**scores, "searched": torch.tensor([1.0, 0.25, 0.0])})
    assert [one.reason for one in found] == ["", "with some seeds there was nothing to search", ""]


def checked(**settings):
    """The settings as a caller sets them whom no run-time types stop before."""
    method = IBA()
    for name, value in settings.items():
        object.__setattr__(method, name, value)
    method.__post_init__()


NUMBERS = ["beta", "retention", "rate", "sigma", "sigma_voxels", "sigma_mm", "steps", "copies", "seeds", "voxels"]


@pytest.mark.parametrize(
    "wrong",
    [{name: value} for name in NUMBERS for value in (-1, float("nan"), float("inf"), "much")]
    + [{"retention": 0.0}, {"retention": 2.0}, {"rate": 0.0}, {"steps": 2.5}, {"copies": 0}]
    + [{"sigma": value} for value in ([1.0, -1.0], [1.0, 1.0], (1.0, float("nan")), (1.0, "much"))],
)
def test_settings_that_describe_no_search_are_refused(wrong):
    with pytest.raises(UsageError, match="describe no search"):
        checked(**wrong)


def test_settings_at_the_ends_of_their_ranges_and_numbers_of_numpy_are_taken():
    checked(beta=0, sigma=(0, 1.0), retention=1, rate=np.float32(0.5), steps=np.int64(1))


def test_the_gate_of_co_iba_is_told_as_it_is():
    assert CoIBA(method=IBA(steps=3)).method == IBA(steps=3, shared_channels=True)
