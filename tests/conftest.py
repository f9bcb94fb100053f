"""Where the real test data lie, and what the run used of them."""

import os
from collections.abc import Callable
from pathlib import Path

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("test data")
    terminalreporter.write_line(f"used: {', '.join(sorted(_USED)) or 'none'}")
    if _MISSING:
        terminalreporter.write_line(f"missing: {', '.join(sorted(_MISSING))}")
