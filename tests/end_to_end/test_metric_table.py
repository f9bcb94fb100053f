"""The page of metric values is what the metrics answer today."""

from pathlib import Path

from docs.metric_table import page

WRITTEN = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_is_current():
    assert WRITTEN.read_text("utf-8") == page(), "run python -m docs.metric_table"
