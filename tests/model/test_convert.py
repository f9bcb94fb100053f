"""Weights into safetensors: safe files at once, files with code only on request and only where they can do no harm."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch import nn

from medxai.errors import WeightsError
from medxai.model.convert import convert_weights
from tests.forbidden import numbers


def built() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def equal(content: bytes, state: dict[str, torch.Tensor]) -> bool:
    again = load(content)
    return again.keys() == state.keys() and all(torch.equal(again[name], value) for name, value in state.items())


class Deed:
    """Unpickled, it calls a function of the standard library."""

    def __init__(self, function: object, *args: object) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.function, self.args


def test_plain_weights_need_no_trust(tmp_path: Path) -> None:
    state = built().state_dict()
    state["tied"] = state["0.weight"]
    torch.save(state, tmp_path / "w.pt")
    converted = convert_weights(tmp_path / "w.pt")
    assert equal(converted.content, state)
    assert converted.tensors == len(state)
    assert converted.means == ("read without running any code",)


@pytest.mark.parametrize(("code", "kind"), [("X01", "deed"), ("X02", "network"), ("X03", "script")])
def test_code_is_opened_only_on_request(tmp_path: Path, code: str, kind: str) -> None:
    model, path = built(), tmp_path / "w.pt"
    if kind == "script":
        with pytest.warns(DeprecationWarning, match="torch.jit"):
            torch.jit.trace(model.eval(), torch.zeros(1, 1, 3, 3)).save(path)
    else:
        state = {**model.state_dict(), "x": Deed(os.getcwd)}
        torch.save(model if kind == "network" else {"state_dict": model.state_dict(), "x": state["x"]}, path)
    with pytest.raises(WeightsError, match=r"w\.pt.*medxai convert") as caught:
        convert_weights(path)
    assert caught.value.code == code
    converted = convert_weights(path, trust=True)
    assert equal(converted.content, model.state_dict())
    assert converted.means[1] == "no network"


def test_a_deed_reaches_no_network_no_program_and_no_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        made = tmp_path / "made"
        program = Deed(os.system, f"mkdir {made}")  # whose status the pickle does not ask
        connection = Deed(socket.create_connection, server.getsockname())
        for name, deeds in {"network": [program, connection], "file": [Deed(os.mkdir, str(made))]}.items():
            torch.save({"state_dict": built().state_dict(), "x": deeds}, tmp_path / f"{name}.pt")
            with pytest.raises(WeightsError, match=f"{name}.pt could not be converted.*Error"):
                convert_weights(tmp_path / f"{name}.pt", trust=True)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not made.exists()


UNDER = """
import sys
from pathlib import Path
from medxai.errors import WeightsError
from medxai.model.convert import convert_weights
from medxai.model.syscalls import forbid
from tests.forbidden import numbers

assert forbid(numbers(*sys.argv[2:]))
try:
    print(*convert_weights(Path(sys.argv[1]), trust=True).means, sep="; ")
except WeightsError as error:
    print(error)
"""
NO_NAMESPACES = ["unshare"]  # as the default profile of Docker has it


@pytest.mark.parametrize(
    ("forbidden", "said"),
    [
        (NO_NAMESPACES, "no network; at most 4 GiB of memory and 600 s; no program started; no other process touched"),
        ([*NO_NAMESPACES, "landlock_create_ruleset"], "writing not confined: no Landlock here"),
        ([*NO_NAMESPACES, "prctl"], "was not opened: nothing here could confine"),
    ],
    ids=["container", "container without Landlock", "nothing at all"],
)
def test_a_container_confines_by_what_it_has_and_says_so(tmp_path: Path, forbidden: list[str], said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for name, stored in {
            "network": built(),
            "deed": {"x": Deed(socket.create_connection, server.getsockname())},
        }.items():
            torch.save(stored, tmp_path / f"{name}.pt")
            words = [sys.executable, "-c", UNDER, str(tmp_path / f"{name}.pt"), *forbidden]
            done = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603
            assert (said if name == "network" else "deed.pt") in done.stdout
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_forbidden_call_fails_with_the_error_that_was_named() -> None:
    script = f"import os; from medxai.model.syscalls import forbid; assert forbid({numbers('fsync')}, 28); os.fsync(1)"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)  # noqa: S603
    assert "[Errno 28] No space left on device" in done.stderr


@pytest.mark.slow
def test_memory_has_a_ceiling_and_what_fails_is_told(tmp_path: Path) -> None:
    torch.save({"state_dict": built().state_dict(), "x": Deed(os.urandom, 2**40)}, tmp_path / "large.pt")
    with pytest.raises(WeightsError, match=r"large\.pt could not be converted.*MemoryError"):
        convert_weights(tmp_path / "large.pt", trust=True)
    torch.save({"x": Deed(os._exit, 0)}, tmp_path / "leaves.pt")
    with pytest.raises(WeightsError, match="no weights file"):
        convert_weights(tmp_path / "leaves.pt", trust=True)
    with pytest.raises(WeightsError, match="There is no weights file"):
        convert_weights(tmp_path / "absent.pt")
