"""Sphinx configuration."""

project = "medxai"
copyright = "the medxai developers"  # noqa: A001 - Sphinx reads this name
extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme = "furo"
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
autodoc_typehints = "description"
