"""The rows X04 to X21 of docs/bad_inputs.md by their codes; test_load and test_convert have those of weights files."""

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.geometry import Geometry
from medxai.core.saliency import Saliency
from medxai.core.target import ClassScore
from medxai.core.volume import Case, Volume
from medxai.errors import MedxaiError
from medxai.explanation import explain
from medxai.io.codes import codes
from medxai.io.recipe import Recipe
from medxai.model.load import load_model, weights_sha256
from tests.networks import images, net

RECIPE = Recipe("as is", ())


def case(data: Tensor | None = None) -> Case:
    voxels = images(2, 1)[0] if data is None else data
    return Case("a", Volume(voxels, Geometry(np.eye(4), tuple(voxels.shape[1:]))))


def explained(model: nn.Module, where: Case | None = None, index: int = 1, **settings: object) -> Saliency:
    method = GradCAM(layer=str(settings.pop("layer", "4")))
    return explain(model, where or case(), method, ClassScore(index), RECIPE, device="cpu", **settings)


def refusal(model: nn.Module, where: Case | None = None, index: int = 1, **settings: object) -> MedxaiError:
    with pytest.raises(MedxaiError) as caught:
        explained(model, where, index, **settings)
    return caught.value


def loading(path: Path, factory: object = None, **settings: object) -> MedxaiError:
    with pytest.raises(MedxaiError, match=path.name) as caught:
        load_model(factory or (lambda: net(2)), path, **settings)
    return caught.value


def test_x04_a_flipped_bit_is_found_with_and_without_a_digest(tmp_path: Path) -> None:
    torch.save(net(2).state_dict(), tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    value = net(2).state_dict()["0.weight"].numpy().tobytes()
    at = content.index(value)
    (tmp_path / "w.pt").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert torch.load(tmp_path / "w.pt", weights_only=True).keys() == net(2).state_dict().keys()  # PyTorch does not see
    error = loading(tmp_path / "w.pt")
    assert (error.code, "checksum" in str(error)) == ("X04", True)
    assert loading(tmp_path / "w.pt", sha256="0" * 64).code == "X04"
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 7)
    assert loading(tmp_path / "cut.safetensors").code == "X04"


def test_x05_keys_and_x06_another_network(tmp_path: Path) -> None:
    state = net(2).state_dict()
    save_file({"module." + name: value for name, value in state.items()}, tmp_path / "parallel.safetensors")
    with pytest.warns(UserWarning, match=r"^X05: The prefix 'module\.'"):
        model = load_model(lambda: net(2), tmp_path / "parallel.safetensors")
    assert weights_sha256(model) == weights_sha256(net(2))
    save_file({**state, "extra": torch.zeros(1)}, tmp_path / "more.safetensors")
    assert loading(tmp_path / "more.safetensors").code == "X05"
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert loading(tmp_path / "other.safetensors").code == "X06"


def test_x07_another_image_than_the_network_was_built_for() -> None:
    assert refusal(net(2), case(torch.rand(3, 9, 11))).code == "X07"
    assert refusal(net(3), case()).code == "X07"


def test_x08_and_x21_the_network_is_left_as_found() -> None:
    model = net(2)
    before = weights_sha256(model), [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    explained(model)
    after = weights_sha256(model), [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    assert before == after
    assert all(not m._forward_hooks and not m._forward_pre_hooks and not m._backward_hooks for m in model.modules())


class Noisy(nn.Module):
    """Adds noise of one generator to its input, in eval mode too."""

    def __init__(self, kind: str, size: float) -> None:
        super().__init__()
        self.inner, self.kind, self.size = net(2), kind, size

    def forward(self, x: Tensor) -> Tensor:
        draw = {
            "torch": lambda: torch.rand(1)[0],
            "numpy": lambda: torch.tensor(float(np.random.rand())),
            "python": lambda: torch.tensor(random.random()),
        }[self.kind]()
        return self.inner(x + self.size * draw)


@pytest.mark.parametrize("kind", ["torch", "numpy", "python"])
def test_x09_an_answer_by_chance_needs_permission(kind: str) -> None:
    state = np.random.get_state()[2]
    error = refusal(Noisy(kind, 1.0), layer="inner.4")
    assert error.code == "X09"
    assert "--allow-stochastic" in str(error)
    permitted = explained(Noisy(kind, 1.0), layer="inner.4", allow_stochastic=True)
    assert codes(permitted.provenance.notices) == ("X09",)
    drawn = explained(Noisy(kind, 0.0), layer="inner.4")  # what is drawn changes nothing
    assert drawn.status.ok
    assert "X09" not in codes(drawn.provenance.notices)
    assert kind == "numpy" or np.random.get_state()[2] == state


def test_x09_dropout_in_eval_mode_draws_nothing() -> None:
    assert "X09" not in codes(explained(net(2)).provenance.notices)


def test_x10_batch_statistics_are_refused() -> None:
    model = net(2)
    model[1] = nn.BatchNorm2d(4, track_running_stats=False)
    error = refusal(model)
    assert (error.code, "'1'" in str(error)) == ("X10", True)


def test_x11_in_place_activations_x12_wrappers_and_x13_surroundings_change_nothing() -> None:
    expected = explained(net(2)).data
    wrapped = {"parallel": nn.DataParallel(net(2)), "compiled": torch.compile(net(2), backend="eager")}
    for model in wrapped.values():
        assert torch.equal(explained(model).data, expected)
    frozen = net(2).requires_grad_(False)
    with torch.no_grad(), torch.autocast("cpu"):
        assert torch.equal(explained(frozen).data, expected)
    plain = net(2)
    with torch.inference_mode():
        assert torch.equal(explained(plain).data, expected)


def test_x13_checkpointing_changes_nothing() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net(2)

        def forward(self, x: Tensor) -> Tensor:
            middle = torch.utils.checkpoint.checkpoint(self.inner[:5], x, use_reentrant=False)
            return self.inner[5:](middle)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = explained(Checkpointed(), layer="inner.4").data
    assert torch.equal(found, explained(net(2)).data)


def test_x14_an_unknown_layer_is_answered_with_its_neighbours() -> None:
    error = refusal(net(2), layer="44")
    assert error.code == "X14"
    assert "'4 (6, 5, 6)'" in str(error)


def test_x15_a_layer_without_a_map() -> None:
    assert refusal(net(2), layer="8").code == "X15"


def test_x16_an_answer_of_several_parts_needs_the_name_of_one() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net(2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.inner(x), "aux": x.mean((1, 2, 3))}

    assert refusal(Parts(), layer="inner.4").code == "X16"
    assert "[X16] The model's output has no part 'logit'." in str(refusal(Parts(), layer="inner.4", output="logit"))
    assert refusal(Parts(), layer="inner.4", output=5).code == "X16"
    named = explained(Parts(), layer="inner.4", output="logits")
    assert torch.equal(named.data, explained(net(2)).data)


def test_x17_a_class_that_is_not() -> None:
    assert refusal(net(2), index=3).code == "X17"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_x18_no_map_of_what_is_no_number(value: float) -> None:
    model = net(2)
    model[8].bias.data[1] = value
    assert refusal(model).code == "X18"


def test_x19_an_image_too_small_for_the_network() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 7), nn.ReLU(), nn.Conv2d(4, 4, 7), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    error = refusal(nn.Sequential(*model, nn.Flatten()), layer="3")
    assert error.code == "X19"
    assert "(1, 9, 11)" in str(error)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_x20_other_precisions_are_computed_in_float32_and_told(dtype: torch.dtype) -> None:
    model = net(2).to(dtype)
    found = explained(model)
    assert codes(found.provenance.notices) == ("X20",)
    assert torch.equal(found.data, explained(net(2).to(dtype).float()).data)
    assert next(model.parameters()).dtype == dtype
