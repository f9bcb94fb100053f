"""What a network keeps for itself in a forward pass is gone afterwards, and what it had before is there again."""

from collections import deque

import pytest
import torch
from torch import Tensor, nn

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from medxai.errors import ModelError
from medxai.model.guard import attributes_kept, untouched
from medxai.model.layers import resolve_layer
from medxai.model.trace import trace

CPU = torch.device("cpu")
KEEPING = ["attribute", "new attribute", "dict", "buffer", "persistent buffer", "list", "deque", "set", "nested"]


class Keeps(nn.Module):
    """Makes its positions at the first pass and keeps them, in one of the ways that published networks use."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv, self.act, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Linear(4, 2)
        self.code: Tensor | None = None
        self.codes: dict[str, object] = {"dict": {}, "list": [], "deque": deque(), "set": set(), "nested": [{"in": []}]}

    def forward(self, x):
        return self.head((self.act(self.conv(x)) * self.positions(x)).mean((2, 3)))

    def positions(self, x):
        kept = self.found(x)
        if kept is not None:
            return kept
        made = torch.ones_like(x[:, :1]).cumsum(3)
        if self.how == "attribute":
            self.code = made
        elif self.how == "new attribute":
            self.fresh = made
        elif "buffer" in self.how:
            self.register_buffer("pe", made, persistent=self.how != "buffer")
        elif self.how == "dict":
            self.codes["dict"][tuple(x.shape)] = made
        elif self.how == "set":
            self.codes["set"].add(made)
        else:
            (self.codes["nested"][0]["in"] if self.how == "nested" else self.codes[self.how]).append(made)
        return made

    def found(self, x):
        ways = {
            "attribute": [self.code],
            "new attribute": [getattr(self, "fresh", None)],
            "buffer": [self._buffers.get("pe")],
            "persistent buffer": [self._buffers.get("pe")],
            "dict": [self.codes["dict"].get(tuple(x.shape))],
            "nested": self.codes["nested"][0]["in"],
        }
        return next(iter(ways.get(self.how, self.codes.get(self.how))), None)


def state(model: nn.Module) -> list[object]:
    """The attributes of every module in their order, and what the networks above keep in containers."""
    held: list[object] = []
    for module in model.modules():
        held += [(name, id(value)) for name, value in vars(module).items()]
        held += [(name, id(value)) for name, value in module._buffers.items()]
    for kept in model.codes.values():
        held += [id(kept), *(id(value) for value in (kept.values() if isinstance(kept, dict) else kept))]
    return [*held, list(model.codes["nested"][0]["in"])]


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("how", KEEPING)
def test_network_that_keeps_tensors_is_explained_and_works_afterwards(how, training, used):
    torch.manual_seed(0)
    x = torch.rand(2, 1, 8, 6)
    model, other = Keeps(how).train(training), Keeps(how)
    other.load_state_dict(model.state_dict())
    if used:
        model(x)
    before = state(model)
    traced = trace(model, (1, 1, 8, 6))
    assert resolve_layer(traced, "auto")[0] == "act"
    assert state(model) == before
    found = GradCAM()(model, x, ClassScore(1))
    assert state(model) == before
    assert torch.equal(found.maps, GradCAM(layer="act")(other, x, ClassScore(1)).maps)
    assert torch.equal(model(x), other(x))
    model.to(torch.float64)(x.double())


def test_first_pass_without_data_leaves_nothing_for_the_second_on_zeros():
    class Looks(Keeps):
        def forward(self, x):
            out = super().forward(x)
            return out if out.sum().item() > 0 else -out

    model = Looks("dict")
    before = state(model)
    assert "Traced on a real image of zeros" in trace(model, (1, 1, 8, 6)).notices[0]
    assert state(model) == before
    model(torch.rand(1, 1, 8, 6))


@pytest.mark.parametrize("how", KEEPING)
def test_a_pass_that_breaks_off_leaves_nothing(how):
    class Breaks(Keeps):
        def forward(self, x):
            super().forward(x)
            raise ValueError("too late")

    model = Breaks(how)
    before = state(model)
    with pytest.raises(ValueError, match="too late"), untouched(model, CPU) as network:
        network(torch.rand(1, 1, 8, 6))
    assert state(model) == before
    with pytest.raises(ModelError):
        trace(model, (1, 1, 8, 6))
    assert state(model) == before


def test_everything_a_module_can_hold_comes_back():
    model = Keeps("list")
    model.sub, model.codes["list"] = nn.Conv2d(1, 1, 1), [torch.zeros(1), torch.ones(1)]
    parameter, child, forward = model.sub.weight, model.sub, lambda x: x
    model.sub.forward = forward
    handle = model.register_forward_hook(lambda *_: None)
    before = state(model)
    with attributes_kept(model):
        model.sub.weight = nn.Parameter(torch.zeros(1, 1, 1, 1))
        model.sub = nn.Linear(1, 1)
        model.more = nn.Linear(1, 1)
        model.codes["list"].reverse()
        model.codes["list"] = None
        del model.how, child.forward
        model.register_forward_pre_hook(lambda *_: None)
        handle.remove()
    assert state(model) == before
    assert model.sub is child
    assert child.weight is parameter
    assert child.forward is forward
    assert [float(t) for t in model.codes["list"]] == [0, 1]
    assert (len(model._forward_hooks), len(model._forward_pre_hooks)) == (1, 0)
    handle.remove()
    assert not model._forward_hooks


def test_nested_use_restores_the_state_of_each_level():
    model = Keeps("attribute")
    with untouched(model, CPU):
        model.code = outer = torch.ones(1)
        with untouched(model, CPU):
            model.code = torch.zeros(1)
        assert model.code is outer
    assert model.code is None


@pytest.mark.parametrize(
    "kept",
    [
        torch.full((1,), float("nan")).expand(5),
        torch.ones(3, device="meta"),
        torch.ones(2, 2).to_sparse(),
    ],
    ids=["expanded", "meta", "sparse"],
)
def test_tensors_that_cannot_be_written_or_compared_are_left_alone(kept):
    model = Keeps("list")
    model.kept = kept
    with attributes_kept(model):
        model.kept = None
    assert model.kept is kept


def test_numbers_written_beside_nan_are_put_back():
    model = Keeps("list")
    model.kept = torch.tensor([float("nan"), 1.0])
    with attributes_kept(model):
        version = model.kept._version
    assert model.kept._version == version
    with attributes_kept(model):
        model.kept += 1
    torch.testing.assert_close(model.kept, torch.tensor([float("nan"), 1.0]), equal_nan=True)
