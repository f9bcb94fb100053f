"""Write docs/metrics.md: every metric, measured on maps and methods whose merit is known.

`python -m docs.metric_table`; a test holds the file to what this prints.
"""

from math import isnan, nan
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from docs.asked_table import ranks, sections
from medxai import catalog
from medxai.core.geometry import Geometry
from medxai.metrics.reading import Reading
from medxai.metrics.spec import reason

SIZE, STEP = (40, 36, 32), 2.0
_HEAD = """# Every metric

## Metrics of a map and a mask

Measured on one planted finding: a ball of 12 mm radius in a field of 40 x 36 x 32 voxels of 2 mm, of which it fills
{share:.2%}. This page is written by `python -m docs.metric_table`.

* **perfect**: the finding itself; **blurred** by 4 mm; **shifted**: blurred and moved by 10 mm; **random**: independent
  values; **inverted**: one less the blurred finding; **uniform**: the same positive value everywhere.
* Every metric is undefined, with its reason, for an empty mask ("{empty}"), for a map of zeros or
  constant below zero ("{zeros}") and for a map that is NaN everywhere
  ("{nothing}"). A constant map above zero is the uniform map. Where this does not hold, a
  line below the table says so.
* **ranks** names the maps that the metric promises to rank strictly, on average over findings, in this order; a metric
  that leaves a map out cannot be trusted to tell it from its neighbours. A test holds it to that.
* **charged**: a map of zeros has no distance, and a mean that leaves it out flatters a method that is often silent.
  Beside the reason stands this penalty, the diagonal of what the model saw, and a cohort is summed up both ways.
* An asterisk: chosen in view of the mask, so it is an upper bound.

"""


def planted() -> dict[str, Reading]:
    """The maps by name, each beside the finding."""
    places = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), -1)
    mask = ((places - (14, 20, 15)) ** 2).sum(-1) < (12 / STEP) ** 2
    exact = mask.astype(np.float32)
    blurred = ndimage.gaussian_filter(exact, 4 / STEP)
    maps = {
        "perfect": exact,
        "blurred": blurred,
        "shifted": ndimage.shift(blurred, (0, 3.0, 4.0), order=1, mode="nearest"),
        "random": np.random.default_rng(0).random(SIZE, np.float32),
        "inverted": 1 - blurred,
        "uniform": np.ones(SIZE, np.float32),
        "zeros": np.zeros(SIZE, np.float32),
        "negative": -np.ones(SIZE, np.float32),
        "NaN": np.full(SIZE, nan, np.float32),
    }
    grid = Geometry(np.diag([STEP, STEP, STEP, 1.0]), SIZE)
    readings = {name: Reading(torch.from_numpy(values), torch.from_numpy(mask), grid) for name, values in maps.items()}
    empty = Reading(torch.from_numpy(blurred), torch.zeros(SIZE, dtype=torch.bool), grid)
    return {**readings, "empty mask": empty}


def page() -> str:
    """The text of docs/metrics.md."""
    maps = planted()
    share = float(maps["perfect"].mask.float().mean())
    rows = [row for row in catalog.metrics().values() if row.needs in {"map", "mask"}]
    shown = ("perfect", "blurred", "shifted", "random", "inverted", "uniform")
    refused = ("empty mask", "zeros", "negative", "NaN")
    reasons = {name: reason(catalog.metrics()["auroc"].fn(maps[name])) for name in refused}
    said = {"empty": reasons["empty mask"], "zeros": reasons["zeros"], "nothing": reasons["NaN"]}
    lines = [_HEAD.format(share=share, **said)]
    lines += [f"| metric | unit | {' | '.join(shown)} | zeros | ranks |", "|---|---|" + "---|" * (len(shown) + 2)]
    exceptions = []
    for row in rows:
        charge = "" if row.penalty is None else f", charged {_said(row.penalty(maps['zeros']))}"
        values = [*(_said(row.fn(maps[name])) for name in shown), _said(row.fn(maps["zeros"])) + charge]
        lines.append(f"| `{row.name}`{'*' if row.bound else ''} | {row.unit} | {' | '.join(values)} | {ranks(row)} |")
        defined = {name: row.fn(maps[name]) for name in refused}
        kept = ", ".join(f"{name} {_said(value)}" for name, value in defined.items() if not isnan(value))
        if kept:
            exceptions.append(f"* `{row.name}` is defined for: {kept}.")
    words = [f"* `{row.name}`: {row.summary}" for row in rows]
    return "\n".join([*lines, "", *exceptions, "", "### In words", "", *words, *sections()]) + "\n"


def _said(value: float) -> str:
    return "undefined" if isnan(value) else f"{0.0 if abs(value) < 1e-9 else value:.3g}"


if __name__ == "__main__":
    Path(__file__).with_name("metrics.md").write_text(page(), "utf-8")
