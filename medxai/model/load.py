"""A network from an importable factory, with weights from a file that cannot run code."""

import difflib
import importlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn

from medxai.errors import ModelError, WeightsError
from medxai.model.faults import FAULTS, told
from medxai.model.soundness import REPAIRS
from medxai.model.weights import fill, weights_sha256

__all__ = ["load_model", "parse_factory_args", "weights_sha256"]

_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def load_model(
    factory: str | Callable[..., object],
    weights: Path | str | None = None,
    *,
    factory_args: Mapping[str, object] | None = None,
    sha256: str | None = None,
) -> nn.Module:
    """The network that `factory` builds, with exactly the weights of the file, on the CPU and in eval mode.

    `factory` is a callable or the name "package.module:callable" of one that can be imported; `factory_args` are its
    keyword arguments. `weights` is `.safetensors`, or `.pt`, `.pth` or `.ckpt` read without running any code of the
    file; None keeps what the factory set. The file's digest is compared with `sha256` before it is opened. Raises
    ModelError about the factory and WeightsError about the file, also where keys or shapes differ from the network's.
    What was repaired on the way is warned of, and stands in the provenance of every explanation of the network.
    """
    if sha256 is not None and weights is None:
        raise WeightsError("A digest was given, but no weights file that it could belong to.")
    model = _build(factory, factory_args or {}).cpu()
    if weights == "":
        raise WeightsError(
            "The name of the weights file is empty.", remedy="Leave it out to keep what the factory set."
        )
    if weights is not None:
        repairs = fill(model, Path(weights), sha256)
        for repair in repairs:
            warnings.warn(repair, stacklevel=1)
        vars(model)[REPAIRS] = repairs
    return model.eval()


def parse_factory_args(pairs: Sequence[str]) -> dict[str, object]:
    """The keyword arguments written as "name=value", each value in YAML: 3, 0.1, true, batch, [8, 16]."""
    import yaml

    result: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier() or name in result:
            raise ModelError(
                "A factory argument cannot be read.", expected="name=value, each name once", found=repr(pair)
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ModelError(
                "A factory argument cannot be read.", expected="a YAML value after =", found=repr(pair)
            ) from error
        # YAML 1.1 takes 1e-3 for text
        result[name] = float(value) if isinstance(value, str) and _SCIENTIFIC.fullmatch(value) else value
    return result


def _build(factory: str | Callable[..., object], args: Mapping[str, object]) -> nn.Module:
    name = factory if isinstance(factory, str) else getattr(factory, "__qualname__", repr(factory))
    make = _imported(factory) if isinstance(factory, str) else factory
    try:
        model = make(**args)
    except (*FAULTS, SystemExit) as error:
        raise ModelError(
            f"The factory {name!r} fails with the arguments {dict(args)}.",
            found=told(error),
            remedy="Pass what it needs with factory_args (--factory-arg name=value).",
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"The factory {name!r} builds no network.", expected="a torch.nn.Module", found=type(model).__name__
        )
    return model


def _imported(name: str) -> Callable[..., object]:
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise ModelError("This names no factory.", expected="package.module:callable", found=repr(name))
    try:
        found: object = importlib.import_module(module)
    except ImportError as error:
        raise ModelError(
            f"The factory {name!r} cannot be imported.",
            found=told(error),
            remedy="Install the package that defines it, or put its folder on PYTHONPATH.",
        ) from error
    except (*FAULTS, SystemExit) as error:
        raise ModelError(
            f"The module of the factory {name!r} fails while it is imported.",
            found=told(error),
            remedy=f"See where: python -c 'import {module}'.",
        ) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            near = difflib.get_close_matches(part, [n for n in dir(found) if not n.startswith("_")], n=5)
            remedy = f"Did you mean one of {near}?" if near else ""
            raise ModelError(f"Module {module!r} has no {attribute!r}.", remedy=remedy) from error
        except FAULTS as error:  # a module may import its parts only when they are asked for
            raise ModelError(f"The factory {name!r} cannot be had.", found=told(error)) from error
    if not callable(found):
        raise ModelError(f"{name!r} is no factory.", expected="a callable", found=f"a {type(found).__name__}")
    return found
