"""What the README and the notebook show runs as it stands."""

import json
import re
from pathlib import Path

import nibabel as nib
import pytest
import torch

from medxai.core.target import ClassScore
from medxai.demo.run import Plan, run_demo
from medxai.metrics.reading import Reading
from tests.networks import LAYER, images, net

ROOT = Path(__file__).parents[2]
SHOWN, BOTH = "patient-65", "patient-80"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder with a tiny `medxai-demo`, and its patients that stand for the two that the texts show."""
    folder = tmp_path_factory.mktemp("readme")
    run_demo(folder / "medxai-demo", device="cpu", plan=Plan(training=4, held_out=2, two_lesions=1, epochs=2))
    ill = sorted(p.name.split("_")[0] for p in (folder / "medxai-demo" / "cohort").glob("*_lesion.nii.gz"))
    return folder, ill


def run(text, demo, monkeypatch):
    folder, (one, two) = demo
    monkeypatch.chdir(folder)
    exec(compile(text.replace(SHOWN, one).replace(BOTH, two), "shown", "exec"), {})  # noqa: S102 - our own text
    return folder


def test_the_patients_shown_are_the_first_with_a_lesion_and_with_two():
    assert int(SHOWN.split("-")[1]) == Plan().training + 1
    assert int(BOTH.split("-")[1]) == Plan().training + Plan().held_out


def test_five_lines_and_two_lesions(demo, monkeypatch):
    five, two = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    folder = run(five, demo, monkeypatch)
    assert nib.load(folder / "out" / "saliency.nii.gz").get_data_dtype() == "float32"
    run(two, demo, monkeypatch)
    for name in ("GradCAM", "IBA", "InverseIBA"):
        assert (folder / "out" / name / "overlay.png").exists()


def test_the_commands_of_the_readme_exist(monkeypatch, capsys):
    from typer.testing import CliRunner

    from medxai.cli.app import app

    shown = re.findall(r"^medxai (\w+)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert set(shown) == {"explain", "evaluate", "inspect", "layers", "methods", "metrics"}
    for command in shown:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_the_method_and_the_metric_of_the_documentation():
    """Both do what their own words say, on a network and a map worked out by hand."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text("utf-8"), re.DOTALL)
    shown: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "shown", "exec"), shown)  # noqa: S102 - our own text
    model, x = net(3), images(3)
    model[8].weight.data[1] *= torch.tensor([1.0, -1, 1, -1, 1, -1])
    found = shown["PositiveGradCAM"](layer=LAYER)(model, x, ClassScore(1)).maps
    weights = model[8].weight[1].clamp(min=0) / found[0].numel()
    with torch.no_grad():
        expected = torch.einsum("k,bk...->b...", weights, model.eval()[:5](x))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    row = shown["RECALL"]
    mask = torch.tensor([True, True, False, False])
    assert row.fn(Reading(torch.tensor([3.0, 0.0, 1.0, 0.0]), mask)) == pytest.approx(0.2)
    assert row.fn(Reading(torch.ones(4), mask)) == pytest.approx(row.uniform(0.5))


@pytest.mark.parametrize(
    ("name", "written"), [("first_overlay", "first-overlay/scores.json"), ("two_lesions", "two-lesions.png")]
)
def test_the_notebooks(demo, monkeypatch, name, written):
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    folder = run("\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code"), demo, monkeypatch)
    assert (folder / written).exists()
