"""Networks from factories, weights from files: what is read, and what is refused without running its code."""

import hashlib
import os
import re
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medxai.errors import ModelError, WeightsError
from medxai.model.load import load_model, parse_factory_args, weights_sha256
from tests.real_models import squeezenet

RESNET = "monai.networks.nets:resnet18"
ARGS = {"spatial_dims": 2, "n_input_channels": 1, "num_classes": 3, "widen_factor": 0.125}


def built(classes: int = 2) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


@pytest.fixture
def source():
    torch.manual_seed(3)
    return built()


@pytest.mark.parametrize("ending", ["safetensors", "pt", "pth", "ckpt"])
def test_weights_come_back_bit_for_bit(tmp_path, source, ending):
    path = tmp_path / f"weights.{ending}"
    save = save_file if ending == "safetensors" else torch.save
    save(source.state_dict(), path)
    model = load_model(built, path, sha256=hashlib.sha256(path.read_bytes()).hexdigest().upper())
    assert weights_sha256(model) == weights_sha256(source)
    assert not any(module.training for module in model.modules())


def test_named_factory_is_imported_and_gets_its_arguments():
    model = load_model(RESNET, factory_args=ARGS)
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 3)
    assert model.conv1.out_channels == 8


@pytest.mark.filterwarnings("ignore:X05")
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
def test_training_checkpoint_is_unwrapped(tmp_path, source, key, prefix):
    inside = {prefix + name: value for name, value in source.state_dict().items()}
    torch.save({key: inside, "epoch": 7, "optimizer": {"lr": 0.1}}, tmp_path / "c.ckpt")
    assert weights_sha256(load_model(built, tmp_path / "c.ckpt")) == weights_sha256(source)


def test_unwrapping_is_announced(tmp_path, source):
    torch.save({"state_dict": source.state_dict()}, tmp_path / "c.pt")
    with pytest.warns(UserWarning, match="entry 'state_dict'"):
        load_model(built, tmp_path / "c.pt")


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("modern", [True, False])
def test_pickled_code_does_not_run_even_if_the_environment_asks_for_it(tmp_path, source, monkeypatch, modern):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    state = {**source.state_dict(), "x": Bomb(str(tmp_path / "ran"))}
    torch.save(state, tmp_path / "bomb.pt", _use_new_zipfile_serialization=modern)
    with pytest.raises(WeightsError, match=r"wants to run code.*posix\.mkdir"):
        load_model(built, tmp_path / "bomb.pt")
    assert not (tmp_path / "ran").exists()


def test_whole_pickled_network_and_torchscript_are_code(tmp_path, source):
    torch.save(source, tmp_path / "whole.pt")
    with pytest.raises(WeightsError, match=r"wants to run code.*torch\.nn\.modules\.conv\.Conv2d"):
        load_model(built, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:  # the layout of torch.jit.save
        archive.writestr("script/constants.pkl", b"\x80\x02).")
        archive.writestr("script/code/__torch__.py", b"")
    with pytest.raises(WeightsError, match="TorchScript"):
        load_model(built, tmp_path / "script.pt")


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_damaged_file_is_named(tmp_path, source, ending, damage):
    path = tmp_path / f"weights.{ending}"
    (save_file if ending == "safetensors" else torch.save)(source.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>404: Not Found</html>" * 9}[damage]
    )
    with pytest.raises(WeightsError, match=re.escape(str(path))) as caught:
        load_model(built, path)
    assert "run code" not in str(caught.value)


def test_flipped_bit_is_caught_by_the_digest(tmp_path, source):
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=f"Expected SHA-256 {digest}"):
        load_model(built, path, sha256=digest)
    with pytest.raises(WeightsError, match="digest was given"):
        load_model(built, sha256=digest)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("0.bias"), r"1 missing: 0\.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "1 unexpected: extra"),
        (lambda s: s.update({"3.weight": torch.zeros(5, 4)}), r"3\.weight: \(5, 4\) in the file, \(2, 4\)"),
        (lambda s: s.update({"3.bias": torch.tensor([0.0, torch.nan])}), r"NaN or infinity.*3\.bias"),
    ],
)
def test_weights_of_another_network_are_listed(tmp_path, source, change, words):
    state = source.state_dict()
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=words):
        load_model(built, tmp_path / "w.safetensors")


def test_no_key_matches_and_long_lists_are_cut(tmp_path):
    torch.save(load_model(RESNET, factory_args=ARGS).state_dict(), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"no key matches.*and \d+ more"):
        load_model(nn.Linear, tmp_path / "w.pt", factory_args={"in_features": 3, "out_features": 2})


def test_weights_do_not_go_into_lazy_layers(tmp_path, source):
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"lazy layers.*the model itself \(LazyLinear\)"):
        load_model(nn.LazyLinear, tmp_path / "w.safetensors", factory_args={"out_features": 2})


def test_file_that_is_no_weights_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="There is no weights file"):
        load_model(built, tmp_path / "absent.pt")
    with pytest.raises(WeightsError, match=re.escape(f"{str(tmp_path)!r} is a folder, not a weights file")):
        load_model(built, tmp_path)
    with pytest.raises(WeightsError, match=r"'\.' is a folder"):
        load_model(built, ".")
    with pytest.raises(WeightsError, match="name of the weights file is empty"):
        load_model(built, "")
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"Expected one of \.safetensors"):
        load_model(built, tmp_path / "w.onnx")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"no state dictionary.*epoch, lr"):
        load_model(built, tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("monai.networks.nets:resnet19", "'resnet18'"),
        ("monai.no_such_module:net", "cannot be imported.*no_such_module"),
        ("monai.networks.nets", "package.module:callable"),
        ("monai.networks.nets:", "package.module:callable"),
        ("monai.networks.nets:UNet", "missing .* 'channels'"),
        ("builtins:dict", "a torch.nn.Module.*dict"),
        ("math:pi", "a callable.*float"),
        ("tests.model.fragile:divides", "fails with the arguments.*ZeroDivisionError: division by zero"),
        ("tests.model.fragile:leaves", "fails with the arguments.*SystemExit: 3"),
        ("tests.model.fragile:silent", r"fails with the arguments.*AssertionError\. Pass"),
        ("tests.model.fragile:elsewhere", "'tests.model.fragile:elsewhere' .*ImportError: not installed"),
    ],
)
def test_factory_that_builds_no_network_is_refused(factory, words):
    with pytest.raises(ModelError, match=words):
        load_model(factory)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("int('x')", "ValueError: invalid literal"),
        ("undefined", "NameError: name 'undefined'"),
        ("raise SystemExit(2)", "SystemExit: 2"),
        ("def", "SyntaxError"),
        ("open('/no/such/file')", "FileNotFoundError"),
    ],
)
def test_module_that_fails_while_it_is_imported_is_named(tmp_path, monkeypatch, line, words):
    name = f"broken_{hashlib.sha256(line.encode()).hexdigest()[:8]}"
    (tmp_path / f"{name}.py").write_text(line + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=f"'{name}:net' fails while it is imported.*{words}.*import {name}"):
        load_model(f"{name}:net")


def test_factory_arguments_are_yaml():
    pairs = ["a=3", "b=0.5", "c=1e-3", "d=[8, 16]", "e=true", "f=batch", "g=", "h={num_groups: 8}", "i=x=y"]
    values = {"a": 3, "b": 0.5, "c": 0.001, "d": [8, 16], "e": True, "f": "batch", "g": None, "h": {"num_groups": 8}}
    assert parse_factory_args(pairs) == {**values, "i": "x=y"}
    assert parse_factory_args([]) == {}


@pytest.mark.parametrize("pairs", [["a"], ["=3"], ["a b=3"], ["a=1", "a=2"], ["a=[1"], ["a=!!python/name:os.system"]])
def test_factory_argument_that_cannot_be_read_is_shown(pairs):
    with pytest.raises(ModelError, match=re.escape(repr(pairs[-1]))):
        parse_factory_args(pairs)


def test_digest_sees_values_names_types_and_shapes(source):
    seen = {weights_sha256(source)}
    source[0].bias.data[0] += 1e-7
    seen.add(weights_sha256(source))
    seen.add(weights_sha256(source.half()))
    seen.add(weights_sha256(nn.Sequential(nn.Identity(), *source)))
    seen.add(weights_sha256(source.bfloat16()))
    assert len(seen) == 5
    assert weights_sha256(built().train()) != weights_sha256(built())


def test_real_checkpoint_fits_its_architecture(tmp_path, data_dir):
    path = data_dir("models/squeezenet_cxr3/squeezenet1_1_model.pth")
    model = load_model("tests.real_models:squeezenet", path, factory_args={"classes": 3})
    logits = model(torch.zeros(1, 3, 224, 224))
    assert logits.shape == (1, 3)
    assert bool((logits >= 0).all())
    copy = tmp_path / "copy.pth"
    shutil.copy(path, copy)
    assert weights_sha256(load_model(squeezenet, str(copy))) == weights_sha256(model)
    with pytest.raises(WeightsError, match=r"classifier\.1\.weight: \(3, 512, 1, 1\) in the file, \(5, 512, 1, 1\)"):
        load_model(squeezenet, path, factory_args={"classes": 5})
