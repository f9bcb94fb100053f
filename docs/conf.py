"""Sphinx configuration."""

from typing import Any

project = "medxai"
copyright = "the medxai developers"  # noqa: A001 - Sphinx reads this name
extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme = "furo"
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
autodoc_typehints = "description"


def _plain(_app: object, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """In the docstrings |x| is a magnitude, not a substitution."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def setup(app: Any) -> None:
    """What Sphinx calls first."""
    app.connect("autodoc-process-docstring", _plain)
