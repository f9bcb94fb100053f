"""Real chest films and real weights: is each method's map what the network looked at? Needs $MEDXAI_TEST_DATA.

`python -m benchmarks.faithful_films --films 4` explains the likeliest class of each film by several methods, and prints
the mean of every metric beside noise, and how far the metrics agree on the order of the methods (Spearman, per film).
"""

import argparse
import os
import warnings
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

import medxai
from medxai.catalog import method, metrics
from medxai.evaluation.score import Score

ROOT = Path(os.environ.get("MEDXAI_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
METHODS = ("GradCAM", "HiResCAM", "LayerCAM", "EigenCAM")
ASKED = ("deletion", "insertion", "comprehensiveness", "sufficiency", "faithfulness_correlation", "road")
SANITY = ("cascading_spearman", "class_sensitivity", "max_sensitivity", "flip_equivariance")


def scores(model: torch.nn.Module, path: Path, name: str) -> tuple[Score, ...]:
    """Every question about one film's map of its likeliest class."""
    case = medxai.load_case(path)
    recipe = medxai.Recipe.from_yaml("configs/recipes/chest_xray_rgb.yaml")
    with torch.no_grad():
        likeliest = int(model.eval()(recipe.apply(case.image).images).argmax())
    asking = medxai.Asking(model, medxai.ClassScore(likeliest), recipe, method(name), "softmax", device="cpu")
    saliency = medxai.explain(model, case, asking.method, asking.target, recipe, device="cpu")
    return medxai.evaluate_model(saliency, case.image, asking, (*ASKED, *SANITY))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--films", type=int, default=4)
    count = options.parse_args().films
    warnings.simplefilter("ignore")
    weights = ROOT / "models" / "squeezenet_cxr3" / "squeezenet1_1_model.pth"
    model = medxai.load_model("tests.real_models:squeezenet", weights)
    films = sorted((ROOT / "cxr" / "covid" / "images").iterdir())[:count]
    found = {
        name: [{s.metric: s for s in scores(model, film, name)} for film in track(films, name, transient=True)]
        for name in METHODS
    }
    table = Table("metric", *METHODS, "noise", title=f"{count} films, mean (films that have a value)")
    for metric in (*ASKED, *SANITY):
        cells = [_mean([film[metric].value for film in found[name]]) for name in METHODS]
        noise = _mean([film[metric].chance.get("noise", np.nan) for film in found[METHODS[0]]])
        table.add_row(metric, *cells, noise)
    Console(width=120).print(table)
    pairs = Table("", *ASKED, title="Spearman of the order of the methods, mean over films")
    for one in ASKED:
        pairs.add_row(one, *[_agreement(found, count, one, other) for other in ASKED])
    Console(width=140).print(pairs)


def _mean(values: list[float]) -> str:
    defined = [value for value in values if not np.isnan(value)]
    return f"{fmean(defined):.3f} ({len(defined)})" if defined else "undefined"


def _agreement(found: dict[str, list[dict[str, Score]]], count: int, one: str, other: str) -> str:
    sign = {row.name: -1 if row.better == "lower" else 1 for row in metrics().values()}
    rows = []
    for film in range(count):
        first, second = ([sign[m] * found[name][film][m].value for name in METHODS] for m in (one, other))
        if not np.isnan([*first, *second]).any() and len(set(first)) > 1 and len(set(second)) > 1:
            rows.append(float(stats.spearmanr(first, second).statistic))
    return _mean(rows)


if __name__ == "__main__":
    main()
