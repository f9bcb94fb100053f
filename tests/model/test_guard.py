"""A model is touched without leaving a trace."""

import pytest
import torch
from torch import nn

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from medxai.errors import DeviceError, ModelError
from medxai.model.device import pick_device
from medxai.model.guard import bare, seeded, untouched
from medxai.model.trace import trace
from tests.networks import net

CPU = torch.device("cpu")


def test_inside_it_is_frozen_in_eval_mode_and_float32():
    model = net(3).half()
    with untouched(model, CPU) as network:
        assert network is model
        assert not any(m.training for m in network.modules())
        assert not any(p.requires_grad for p in network.parameters())
        assert {p.dtype for p in network.parameters()} == {torch.float32}
        assert not torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert model.training


def test_precision_is_full_inside_and_as_chosen_after():
    torch.set_float32_matmul_precision("high")
    try:
        with untouched(net(2), CPU):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            assert torch.backends.cudnn.deterministic
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        assert not torch.backends.cudnn.deterministic
    finally:
        torch.set_float32_matmul_precision("highest")


def test_buffers_changed_inside_are_as_before():
    model = net(2)
    before = model[1].running_mean.clone()
    with untouched(model, CPU) as network:
        network[1].running_mean.add_(1)
    assert torch.equal(model[1].running_mean, before)


def test_an_exception_restores_it_too():
    model = net(2)
    with pytest.raises(KeyError), untouched(model, CPU):
        raise KeyError
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


def test_shared_parameters_stay_shared():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).half()
    model[1].weight = model[0].weight
    with untouched(model, CPU) as network:
        assert network[1].weight is network[0].weight
        assert network(torch.rand(1, 3)).dtype == torch.float32
    assert model[1].weight is model[0].weight
    assert model[0].weight.dtype == torch.float16


def test_gradients_of_the_user_survive_a_change_of_precision():
    model = nn.Linear(3, 1).double()
    model(torch.rand(2, 3, dtype=torch.float64)).sum().backward()
    gradient = model.weight.grad
    with untouched(model, CPU):
        assert model.weight.dtype == torch.float32
    assert model.weight.grad is gradient
    assert gradient.dtype == torch.float64


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
def test_bare_takes_every_wrapper_off():
    model = net(2)
    assert bare(model) is model
    assert bare(nn.DataParallel(model)) is model
    assert bare(torch.compile(model)) is model
    assert bare(nn.DataParallel(torch.compile(model))) is model


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_is_refused_with_what_to_give_instead():
    script = torch.jit.trace(nn.Conv2d(1, 2, 3), torch.zeros(1, 1, 5, 5))
    for call in (
        bare,
        lambda m: trace(m, (1, 1, 5, 5)),
        lambda m: GradCAM()(m, torch.zeros(1, 1, 5, 5), ClassScore(0)),
    ):
        for model, which in (
            (script, "This model"),
            (nn.DataParallel(script), "This model"),
            (nn.Sequential(script), "Layer '0'"),
        ):
            with pytest.raises(ModelError, match=rf"{which} is TorchScript.*Give the nn\.Module"):
                call(model)


def test_lazy_layers_are_refused_until_they_ran_once():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    calls = (bare, lambda m: trace(m, (1, 1, 5, 5)), lambda m: GradCAM()(m, torch.zeros(1, 1, 5, 5), ClassScore(0)))
    for call in calls:
        with pytest.raises(ModelError, match=r"lazy layers.*0 \(LazyConv2d\), 3 \(LazyLinear\).*one forward pass"):
            call(model)
    assert not any(m._forward_hooks for m in model.modules())
    model(torch.rand(1, 1, 5, 5))
    for call in calls:
        call(model)


def test_seeded_draws_the_same_and_disturbs_nobody():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with seeded(1, CPU):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(1, CPU):
        assert torch.equal(torch.rand(3), first)


def test_devices():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("cuda:99", "tpu", "cuda:x", "cpu:1", ""):
        with pytest.raises(DeviceError, match="one of"):
            pick_device(name)
