"""Where the real test data lie, and what the run used of them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(os.environ.get("MEDXAI_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
_USED: set[str] = set()
_MISSING: set[str] = set()


@pytest.fixture(scope="session")
def data_dir() -> Callable[[str], Path]:
    """A real test file or folder; its absence skips the test by name, and fails it where CI=true."""

    def find(name: str) -> Path:
        path = ROOT / name
        if path.exists():
            _USED.add(name)
            return path
        _MISSING.add(name)
        if os.environ.get("CI") == "true":
            pytest.fail(f"test data {name!r} is missing: set MEDXAI_TEST_DATA to the folder that holds it")
        pytest.skip(f"test data {name!r} not found: set MEDXAI_TEST_DATA to the folder that holds it")

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share an expensive fixture of their file stay in one process."""
    for item in items:
        if "end_to_end" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group(item.path.name))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker process tells what it used."""
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told |= {"used": sorted(_USED), "missing": sorted(_MISSING)}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Gather what the workers told."""
    _USED.update(getattr(node, "workeroutput", {}).get("used", ()))
    _MISSING.update(getattr(node, "workeroutput", {}).get("missing", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("test data")
    terminalreporter.write_line(f"used: {', '.join(sorted(_USED)) or 'none'}")
    if _MISSING:
        terminalreporter.write_line(f"missing: {', '.join(sorted(_MISSING))}")
