"""What the page of the bottlenecks shows runs as it stands, from top to bottom."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "bottleneck.md"


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S):
        exec(compile(block, "bottleneck.md", "exec"), names)  # noqa: S102 - our own text
    assert names["found"].maps.shape == (1, 16, 16)
    assert names["found"].amount == "bits"
    assert names["needed"].status[0].ok
