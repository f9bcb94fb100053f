"""What the pages promise exists: every method of the catalogue has its place in the methods page."""

import re
from importlib import import_module
from pathlib import Path

from medxai import catalog

DOCS = Path(__file__).parents[2] / "docs"


def test_every_method_is_in_the_methods_page_and_every_name_there_exists():
    page = (DOCS / "methods.md").read_text("utf-8")
    listed = re.findall(r"autoclass:: (\S+)\.(\w+)", page)
    found = {name: getattr(import_module(module), name) for module, name in listed}
    assert set(catalog.methods()) <= set(found)
    for name, cls in catalog.methods().items():
        assert found[name] is cls


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text("utf-8")
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages <= set(index.split())
