"""What the functions of the front page are given by mistake is refused in words, without the tests' type checks."""

import subprocess
import sys

import numpy as np
from PIL import Image

GIVEN = """
import torch
import medxai
from medxai.errors import UsageError

model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(2))
case, recipe = medxai.load_case("film.png"), medxai.Recipe.identity()
mask = medxai.Mask(torch.ones(8, 8).bool(), case.image.geometry)
model(case.image.data[None].float())
explain = lambda *first: medxai.explain(*first, medxai.GradCAM(layer="0"), medxai.ClassScore(1), recipe, device="cpu")
saliency = explain(model, case)
for refused in (
    lambda: explain(model, "film.png"),
    lambda: explain(model, torch.rand(1, 1, 8, 8)),
    lambda: explain(None, case),
    lambda: explain(lambda x: model(x), case),
    lambda: medxai.explain(model, case, "GradCAM", medxai.ClassScore(1), recipe),
    lambda: medxai.evaluate(saliency, "film.png"),
    lambda: medxai.evaluate("film.png", mask),
    lambda: medxai.save_overlay((saliency, saliency), case, "out"),
    lambda: medxai.save_overlay(saliency, "film.png", "out"),
    lambda: medxai.save_overlay(saliency, case, "out", "film.png"),
    lambda: medxai.load_case("film.png", spacing=0.5),
    lambda: medxai.load_case(["film.png", "film.png"]),
    lambda: medxai.read_mask(3),
):
    try:
        refused()
    except UsageError as error:
        print(error)
"""


def test_what_is_of_another_kind_is_refused_in_words(tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "film.png")
    words = [sys.executable, "-W", "ignore", "-c", GIVEN]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    kinds = (
        ["case"] * 2 + ["model"] * 2 + ["method", "mask", "map", "saliency", "case", "mask", "spacing", "path", "path"]
    )
    assert [line.split(" cannot be used. Expected ")[0] for line in said] == [f"This {kind}" for kind in kinds]
    assert all("Found " in line for line in said)
    assert not (tmp_path / "out").exists()
