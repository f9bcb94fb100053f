"""Weights files: read without running their code, fitted to a network key by key, named by a digest."""

import hashlib
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from medxai.errors import WeightsError
from medxai.model.faults import FAULTS, told
from medxai.model.guard import refuse_lazy

State = dict[str, Tensor]

_TYPES = "a file of type .safetensors, .pt, .pth or .ckpt"
_PICKLES = (".pt", ".pth", ".ckpt")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")
_NETWORKS = ("torch.nn.", "__torch__", "monai.", "torchvision.", "timm.")
_CONVERT = "If you trust where it comes from: medxai convert IN OUT.safetensors --trust (a confined process opens it)."
_GLOBAL = re.compile(r"GLOBAL (\w+\.[\w.]+)")


def fill(model: nn.Module, path: Path, sha256: str | None) -> tuple[str, ...]:
    """Put the weights of the file into `model`: every key and every shape must fit. Answers what was repaired."""
    refuse_absent(path)
    if sha256 is not None and (found := _file_digest(path)) != sha256.strip().lower():
        raise WeightsError(
            f"{path} is not the weights file that was meant.",
            expected=f"SHA-256 {sha256.strip().lower()}",
            found=found,
            remedy="Fetch the file again, or correct the digest if the file is the right one.",
            code="X04",
        )
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        state = read_state(path)
    refuse_lazy(model)
    _compare(model, state, path)
    model.load_state_dict(state, strict=False)
    return tuple(str(one.message) for one in remarks)


def refuse_absent(path: Path) -> None:
    """Raises WeightsError where there is no file of that name."""
    if path.is_dir():
        raise WeightsError(f"{str(path)!r} is a folder, not a weights file.", expected=_TYPES)
    if not path.is_file():
        raise WeightsError(f"There is no weights file {str(path)!r}.", expected=_TYPES)


def read_state(path: Path) -> State:
    """Every tensor of a weights file by its name, read without running any code of the file. Raises WeightsError."""
    return _without_prefix(tensors_of(_read(path), path))


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over name, type, shape and bytes of every parameter and buffer that the model would save."""
    result = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            result.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
            result.update(flat.view(torch.uint8).numpy().data)
    return result.hexdigest()


def _read(path: Path) -> object:
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path, device="cpu")
        except (SafetensorError, *FAULTS) as error:
            raise _damaged(path, error) from error
    if path.suffix.lower() not in _PICKLES:
        raise WeightsError(
            f"{path} has a type that is not read.",
            expected="one of .safetensors, .pt, .pth, .ckpt",
            found=repr(path.suffix),
        )
    if is_torchscript(path):
        raise WeightsError(
            f"{path} is a TorchScript archive, which is a program, not weights.",
            remedy=_CONVERT,
            code="X03",
        )
    _refuse_broken_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        names = _unsafe_globals(path) or _GLOBAL.findall(str(error))
        if not names:
            raise WeightsError(
                f"{path} is damaged or no weights file.",
                found="no pickle of tensors",
                remedy="Fetch the file again.",
                code="X04",
            ) from error
        raise WeightsError(
            f"{path} wants to run code when it is opened, so it was not opened.",
            expected="tensors in plain containers",
            found=f"the globals {_few(names)}",
            remedy=_CONVERT,
            code="X02" if any(name.startswith(_NETWORKS) for name in names) else "X01",
        ) from error
    except (struct.error, *FAULTS) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} is damaged or no weights file.",
        found=told(error) if str(error).strip() else f"{type(error).__name__}: it ends too early",
        remedy="Fetch the file again.",
        code="X04",
    )


def is_torchscript(path: Path) -> bool:
    """Whether the file is a program with weights, as torch.jit.save writes it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _refuse_broken_archive(path: Path) -> None:
    """torch.load neither verifies the checksums of an archive nor minds members that unpack to more than they are."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
        found = f"the member {packed[0]!r} is compressed" if packed else ""
        try:
            hurt = None if packed else archive.testzip()
        except (zipfile.BadZipFile, OSError, EOFError, struct.error) as error:
            found, hurt = told(error), None
    if found or hurt:
        raise WeightsError(
            f"{path} is damaged or no weights file.",
            expected="members as torch.save stores them, each with its checksum",
            found=found or f"a wrong checksum in the member {hurt!r}",
            remedy="Fetch the file again.",
            code="X04",
        )


def _unsafe_globals(path: Path) -> list[str]:
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except FAULTS:
        return []  # an old pickle, which that function does not read


def tensors_of(loaded: object, path: Path) -> State:
    """The state dictionary itself, or the one inside a training checkpoint."""
    if _is_state(loaded):
        return {str(k): v for k, v in _items(loaded) if isinstance(v, Tensor)}
    inside = dict(_items(loaded))
    for key in _WRAPPERS:
        if _is_state(inside.get(key)):
            warnings.warn(f"X05: The weights were read from the entry {key!r} of the checkpoint.", stacklevel=4)
            return {str(k): v for k, v in _items(inside[key]) if isinstance(v, Tensor)}
    raise WeightsError(
        f"{path} holds no state dictionary.",
        expected=f"names to tensors, alone or under one of {list(_WRAPPERS)}",
        found=f"a {type(loaded).__name__} with the entries {_few(map(str, inside))}",
        remedy="Save model.state_dict().",
        code="X05",
    )


def _is_state(value: object) -> bool:
    values = [v for _, v in _items(value)]
    return bool(values) and all(isinstance(v, Tensor) for v in values)


def _items(value: object) -> list[tuple[object, object]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _without_prefix(state: State) -> State:
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            warnings.warn(f"X05: The prefix {prefix!r} of every name in the weights file was left out.", stacklevel=4)
            return _without_prefix({name.removeprefix(prefix): value for name, value in state.items()})
    return state


def _compare(model: nn.Module, state: State, path: Path) -> None:
    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    needed = [
        name for name in wanted if not name.endswith("num_batches_tracked")
    ]  # absent from old files, unused in eval
    missing = [name for name in needed if name not in state]
    unexpected = [name for name in state if name not in wanted]
    bent = [
        f"{name}: {tuple(state[name].shape)} in the file, {tuple(value.shape)} in the network"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing and len(missing) == len(needed):
        raise WeightsError(
            f"{path} belongs to another network: no key matches.",
            expected=f"{_few(needed)}",
            found=_few(state),
            remedy="Check the factory and its arguments.",
            code="X06",
        )
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": bent}
    if any(problems.values()):
        raise WeightsError(
            f"{path} does not fit the network.",
            found="; ".join(f"{len(names)} {what}: {_few(names)}" for what, names in problems.items() if names),
            remedy="Check the factory's arguments: channels, classes, spatial dimensions.",
            code="X05",
        )
    broken = [name for name, _ in model.named_parameters() if name in state and not state[name].isfinite().all()]
    if broken:
        raise WeightsError(
            f"{path} holds NaN or infinity.",
            expected="finite weights",
            found=f"in {_few(broken)}",
            remedy="Fetch the file again.",
            code="X04",
        )


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:10]) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _damaged(path, error) from error
