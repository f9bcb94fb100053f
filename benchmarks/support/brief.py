"""Methods that iterate, made to iterate little: for laws that hold for any number."""

from dataclasses import fields, replace
from typing import Any

from medxai.core.protocols import Attributor


def brief(method: Attributor, few: int) -> Attributor:
    """The method, and every method in it, with `few` steps or draws, one copy of the noise and a given price."""
    own = {field.name: getattr(method, field.name) for field in fields(method)}  # type: ignore[arg-type]
    limits: dict[str, Any] = {"steps": few, "n": few, "copies": 1, "beta": 0.1}
    changed = {name: limits[name] for name in own.keys() & limits}
    inner = {name: brief(part, few) for name, part in own.items() if isinstance(part, Attributor)}
    return replace(method, **changed, **inner)  # type: ignore[type-var]
