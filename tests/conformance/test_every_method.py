"""Laws that every attribution method obeys; a new row in the catalogue is judged here unasked."""

import dataclasses
import pickle

import pytest
import torch
from torch import nn

from benchmarks.support.brief import brief
from medxai import catalog
from medxai.core.target import ClassScore
from medxai.errors import DisconnectedError, LayerNotFoundError, MedxaiError, TargetError
from medxai.metrics.localisation import mass_in_mask
from medxai.metrics.reading import Reading
from medxai.model.guard import seeded
from tests.networks import LAYER, SIZE, Planted, images, in_three_dimensions, net, planted_case, rising, symmetric

pytestmark = pytest.mark.parametrize("ndim", [2, 3])

TARGET = ClassScore(1)
CELLS = (5, 6, 7)


def those(law=lambda _: True):
    """The methods that a law is about."""
    return pytest.mark.parametrize("name", [n for n in sorted(catalog.methods()) if law(catalog.traits(n))])


def those_with_a_layer():
    own = {n: {field.name for field in dataclasses.fields(cls)} for n, cls in catalog.methods().items()}
    return pytest.mark.parametrize("name", [n for n in sorted(own) if own[n] & {"layer", "layers"}])


def network(name, ndim):
    """One network for all; for a method that masks, one whose scores a mask lowers."""
    model = net(ndim)
    return rising(model) if catalog.traits(name).reads == "score" else model


def make(name, layer=LAYER):
    return brief(catalog.method(name, layer), 8)


def attribute(name, model, x, target=TARGET, layer=LAYER):
    with seeded(0, x.device):
        return make(name, layer)(model, x, target)


def maps(name, model, x, target=TARGET):
    return attribute(name, model, x, target).maps


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


def state(model):
    return {
        "hooks": [
            (len(m._forward_hooks), len(m._backward_hooks), len(m._forward_pre_hooks), len(m._backward_pre_hooks))
            for m in model.modules()
        ],
        "own": [sorted(m.__dict__) for m in model.modules()],
        "modes": [m.training for m in model.modules()],
        "flags": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "where": [(p.data_ptr(), p.dtype) for p in model.parameters()] + [b.data_ptr() for b in model.buffers()],
        "values": {k: v.clone() for k, v in model.state_dict().items()},
    }


def same(before, after):
    exact = all(before[k] == after[k] for k in ("hooks", "own", "modes", "flags", "where"))
    values = all(torch.equal(v, after["values"][k]) for k, v in before["values"].items())
    grads = all(
        (a is None and b is None) or torch.equal(a, b) for a, b in zip(before["grads"], after["grads"], strict=True)
    )
    return exact and values and grads


@those()
def test_map_lies_on_the_layer_grid(name, ndim):
    found = attribute(name, network(name, ndim), images(ndim))
    assert found.maps.shape == (2, *(CELLS if found.layer else SIZE)[:ndim])
    assert found.maps.dtype == torch.float32
    assert found.maps.isfinite().all()
    assert not found.maps.requires_grad
    assert found.layer in (LAYER, "")
    assert all(status.ok for status in found.status)


@those()
def test_same_bytes_twice(name, ndim):
    model, x = network(name, ndim), images(ndim)
    assert torch.equal(maps(name, model, x), maps(name, model, x))


@those()
def test_batch_equals_one_by_one_with_a_target_per_sample(name, ndim):
    model, x, classes = network(name, ndim), images(ndim, batch=4), (0, 1, 2, 1)
    together = maps(name, model, x, ClassScore(classes))
    alone = torch.cat([maps(name, model, x[i : i + 1], ClassScore(c)) for i, c in enumerate(classes)])
    assert relative(together, alone) <= 1e-5


@those(lambda t: t.shared)
def test_many_targets_share_one_forward_and_equal_one_at_a_time(name, ndim):
    model, x, passes = network(name, ndim), images(ndim), []
    handle = model[0].register_forward_hook(lambda _module, args, _output: passes.append(len(args[0])))
    attribute(name, model, x)
    alone = sum(passes)
    with seeded(0, x.device):
        found = make(name).attribute(model, x, [ClassScore(c) for c in range(3)])
    assert sum(passes) == 2 * alone
    for c, one in enumerate(found):  # all heard: what nobody hears may round differently
        assert torch.equal(one.maps, maps(name, model, x, ClassScore(c)))
    handle.remove()


@pytest.mark.parametrize("target", [ClassScore(1), ClassScore(9)], ids=["ok", "raises"])
@those()
def test_model_left_as_found(name, ndim, target):
    model, x = network(name, ndim), images(ndim)
    model[0].eval()
    model[0].weight.requires_grad_(False)
    model(x).sum().backward()
    model.register_forward_hook(lambda *_: None)
    before, pixels = state(model), x.clone()
    if target.index == 9:
        with pytest.raises(TargetError):
            attribute(name, model, x, target)
    else:
        attribute(name, model, x, target)
    assert same(before, state(model))
    assert torch.equal(x, pixels)
    assert not x.requires_grad
    assert torch.is_grad_enabled()


@those()
def test_model_left_as_found_when_it_breaks_inside(name, ndim):
    model, x = network(name, ndim), images(ndim)

    class Broken(nn.Module):
        def forward(self, _x):
            raise RuntimeError("broken on purpose")

    model[6] = Broken()
    before = state(model)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        attribute(name, model, x)
    assert same(before, state(model))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("around", ["no_grad", "inference_mode", "autocast", "frozen", "not in place", "wrapped"])
@those()
def test_surroundings_change_nothing(name, ndim, around):
    model, x = network(name, ndim), images(ndim)
    expected = maps(name, model, x)
    contexts = {
        "no_grad": torch.no_grad(),
        "inference_mode": torch.inference_mode(),
        "autocast": torch.autocast("cpu", torch.bfloat16),
    }
    if around == "frozen":
        model.requires_grad_(False)
    if around == "not in place":
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
    if around == "wrapped":
        model = nn.DataParallel(model)
    if around in contexts:
        with contexts[around]:
            found = maps(name, model, x.clone())
    else:
        found = maps(name, model, x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@those()
def test_float32_whatever_the_precision_of_the_weights(name, ndim, dtype):
    rounded, reference = network(name, ndim).to(dtype), network(name, ndim).to(dtype).float()
    before = state(rounded)
    found = maps(name, rounded, images(ndim))
    assert found.dtype == torch.float32
    assert torch.equal(found, maps(name, reference, images(ndim)))
    assert same(before, state(rounded))


@those(lambda t: t.cost == "1F + 1B")
def test_the_graph_starts_at_the_layer(name, ndim):
    model, x = network(name, ndim), images(ndim)
    saved: list[int] = []

    def pack(tensor):
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = attribute(name, model, x)
    activation = found.maps.numel() * 6
    assert sum(saved) <= 3 * activation + 100


@those()
def test_depth_one_equals_two_dimensions(name, ndim):
    flat, x = network(name, 2), images(2)
    deep = in_three_dimensions(flat)
    expected = maps(name, flat, x)
    found = maps(name, deep, x[:, :, None])
    assert found.shape[1] == 1
    assert relative(found[:, 0], expected) <= 1e-5


@those(lambda t: not t.random)
def test_flipped_image_gives_the_flipped_map(name, ndim):
    model, x = symmetric(network(name, ndim)), images(ndim)
    straight = maps(name, model, x)
    for axis in range(ndim):
        flipped = maps(name, model, x.flip(2 + axis))
        assert relative(flipped.flip(1 + axis), straight) <= 1e-5


@those(lambda t: t.reads != "activation" and not t.sufficient)
def test_finds_planted_evidence_and_a_misplaced_map_does_not(name, ndim):
    def lift(misplace):
        shares = []
        for seed in range(6):
            x, mask = planted_case(ndim, seed)
            found = attribute(name, Planted(ndim), x, layer="act").maps[0]
            placed = found.roll([n // 2 for n in found.shape], list(range(ndim))) if misplace else found
            shares.append(mass_in_mask(Reading(placed, mask)) / (mask.sum() / mask.numel()))
        return sum(shares) / len(shares)

    assert lift(misplace=False) > (1.5 if catalog.traits(name).magnitude else 4)
    assert lift(misplace=True) < 1.5


@those()
def test_description_travels(name, ndim):
    method = make(name)
    assert pickle.loads(pickle.dumps(method)) == method  # noqa: S301 - our own bytes
    assert type(method)(**{f.name: getattr(method, f.name) for f in dataclasses.fields(method)}) == method
    assert set(dataclasses.asdict(method)) == {f.name for f in dataclasses.fields(method)}
    assert hash(method) == hash(make(name))


SILENT = {
    "zero": lambda head: head.weight.data.zero_(),
    "vanishing": lambda head: (head.weight.data.mul_(1e-30), head.bias.data.fill_(1.0)),
}


@pytest.mark.parametrize("how", SILENT)
@those(lambda t: t.reads == "gradient")
def test_no_gradient_is_degenerate(name, ndim, how):
    model = network(name, ndim)
    SILENT[how](model[8])
    found = attribute(name, model, images(ndim))
    assert [status.reason for status in found.status] == [f"{how} gradient"] * 2


@pytest.mark.parametrize("how", SILENT)
@those(lambda t: t.reads == "score")
def test_a_score_that_no_mask_changes_is_degenerate(name, ndim, how):
    model = network(name, ndim)
    SILENT[how](model[8])
    found = attribute(name, model, images(ndim))
    assert all(not status.ok for status in found.status)


@those()
def test_a_score_that_is_not_finite_is_degenerate(name, ndim):
    model = network(name, ndim)
    model[8].bias.data.fill_(torch.nan)
    found = attribute(name, model, images(ndim))
    assert [status.reason for status in found.status] == ["the score is not finite"] * 2


@those(lambda t: t.reads != "activation" and not t.magnitude)
def test_evidence_against_is_never_shown_as_evidence_for(name, ndim):
    model = network(name, ndim)
    model[8].weight.data.abs_().neg_()
    found = attribute(name, model, images(ndim))
    assert [status.reason for status in found.status] == ["no positive evidence"] * 2 or not (found.maps > 0).any()


@those(lambda t: t.reads == "activation")
def test_a_method_blind_to_the_target_says_so(name, ndim):
    found = attribute(name, network(name, ndim), images(ndim))
    assert any("does not depend on the target" in notice for notice in found.notices)
    assert torch.equal(found.maps, maps(name, network(name, ndim), images(ndim), ClassScore(0)))


@those()
def test_one_bad_sample_spoils_no_other(name, ndim):
    model, x = network(name, ndim), images(ndim)
    expected = maps(name, model, x)[1]
    x[0, 0].view(-1)[3] = torch.nan
    found = attribute(name, model, x)
    assert not found.status[0].ok
    assert found.status[1].ok
    assert relative(found.maps[1], expected) <= 1e-5


@those_with_a_layer()
def test_unknown_layer_names_its_neighbours(name, ndim):
    with pytest.raises(LayerNotFoundError, match="Did you mean"):
        attribute(name, network(name, ndim), images(ndim), layer="layer2")


@those(lambda t: t.reads == "gradient")
def test_a_layer_off_the_path_is_an_error(name, ndim):
    class Detached(nn.Module):
        def forward(self, x):
            return x.detach()

    model = network(name, ndim)
    model[6] = nn.Sequential(nn.Flatten(), Detached())
    with pytest.raises(DisconnectedError, match="does not depend"):
        attribute(name, model, images(ndim))


@those_with_a_layer()
def test_a_layer_called_twice_is_an_error(name, ndim):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.act = network(name, ndim), nn.ReLU()

        def forward(self, x):
            return self.body(self.act(self.act(x)))

    with pytest.raises(MedxaiError, match=r"more than once|runs 2 times"):
        attribute(name, Twice(), images(ndim), layer="act")
