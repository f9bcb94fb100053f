"""Every attribution method by name, those of plug-ins too: `from medxai.methods import LayerCAM`."""

from typing import Any

from medxai import catalog


def __getattr__(name: str) -> Any:
    found = catalog.methods().get(name)
    if found is None:
        raise AttributeError(f"There is no method {name!r}: `medxai methods` lists them.")
    return found


def __dir__() -> list[str]:
    return sorted(catalog.methods())
