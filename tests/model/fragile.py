"""Factories that fail, each in its way."""


def divides() -> float:
    return 1 / 0


def leaves() -> None:
    raise SystemExit(3)


def silent() -> None:
    raise AssertionError


def __getattr__(name: str) -> object:
    if name == "elsewhere":
        raise ImportError("not installed")
    raise AttributeError(name)
