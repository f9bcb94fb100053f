"""Weights files into safetensors: opened without running code where that is possible, else confined and on request."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from medxai.errors import WeightsError
from medxai.model.weights import State, read_state, refuse_absent

_SECONDS = 600
_LEAST_MEMORY = 4 * 2**30


@dataclass(frozen=True, eq=False)
class Converted:
    """A safetensors file in memory: its bytes, their SHA-256, how many tensors it holds and how it came to be."""

    content: bytes
    sha256: str
    tensors: int
    means: tuple[str, ...]


def convert_weights(source: Path, trust: bool = False) -> Converted:
    """The tensors of a weights file as safetensors, read back and found equal.

    A file that would run code (a pickled network, TorchScript) is opened only with `trust`, and then by a process of
    its own without network and with a ceiling for memory (`medxai.model.jail`). Raises WeightsError.
    """
    refuse_absent(source)
    try:
        return _packed(read_state(source), ("read without running any code",))
    except WeightsError as error:
        if not trust or error.code not in ("X01", "X02", "X03"):
            raise
    with tempfile.TemporaryDirectory() as folder:
        return _packed(*_unpickled(source.resolve(), Path(folder)))


def _unpickled(source: Path, folder: Path) -> tuple[State, tuple[str, ...]]:
    memory = max(_LEAST_MEMORY, 4 * source.stat().st_size)
    words = [sys.executable, "-m", "medxai.model.unpickle", str(source), str(folder), str(memory), str(_SECONDS)]
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own module, under this interpreter
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=2 * _SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(source, f"it was not done after {2 * _SECONDS} s") from error
    said = _said(folder / "said.json")
    if "open" in said:
        raise WeightsError(
            f"{source} was not opened: nothing here could confine the code that it runs.",
            expected="Linux, and a namespace (unshare) or a filter of system calls (seccomp)",
            found=str(said["open"]),
            remedy="Convert it where one of them is permitted, or save model.state_dict() where it was trained.",
            code="X02",
        )
    if done.returncode != 0:
        raise _failed(source, str(said.get("problem", f"the process ended with status {done.returncode}")))
    means = said.get("means")
    listed = tuple(str(word) for word in means) if isinstance(means, list) else ()
    return read_state(folder / "weights.safetensors"), ("opened by a process of its own", *listed)


def _said(path: Path) -> dict[str, object]:
    try:
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _failed(source: Path, found: str) -> WeightsError:
    plain = "".join(character if character.isprintable() else " " for character in found)[:500]
    return WeightsError(
        f"{source} could not be converted.",
        expected="a network, TorchScript or a state dictionary",
        found=plain,
        remedy="Make the packages that it needs importable, or save model.state_dict() where it was trained.",
        code="X02",
    )


def _packed(state: State, means: tuple[str, ...]) -> Converted:
    from safetensors.torch import load, save

    content = save({name: value.detach().clone().contiguous() for name, value in state.items()})
    again = load(content)
    if again.keys() != state.keys() or not all(_same(state[name], again[name]) for name in state):
        raise WeightsError("The converted weights are not those of the file.", remedy="Report this, with the file.")
    return Converted(content, hashlib.sha256(content).hexdigest(), len(state), means)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    bits = [t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (one, other)]
    return (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(*bits)
