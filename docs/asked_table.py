"""The second half of docs/metrics.md: every metric that asks the network, on maps and methods whose merit is known."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from statistics import fmean

import torch
from torch import Tensor, nn

from benchmarks.ladder import SHAPES, planted
from medxai import catalog
from medxai.attribution.class_activation import CAM
from medxai.core.protocols import Attribution
from medxai.core.saliency import Status
from medxai.core.target import ClassScore, Target
from medxai.metrics.intermodel import inter_model
from medxai.metrics.spec import RUNGS, MetricSpec, Needs
from medxai.metrics.trial import Trial

FILMS = 2
_PROBED = f"""
## Metrics that ask the network about changed images

Means over {FILMS} planted films of 30 x 28 pixels of 1 mm: the evidence is a thin bright bar across a corner, the
score a saturating function of its mean, and squares of 2 mm give way to a blur of 6 mm. The maps are those above,
blurred by 2 mm. Every metric is undefined for a map of zeros ("zero map"), one that is NaN everywhere ("nothing to
perturb") and one that is infinite ("infinite saliency"); a constant map other than zero is the uniform map, which
ranks at random.
"""
_TRIED = """
## Metrics that ask the method again

Here a method is judged, not a map, on planted films and a small convolutional network that counts what is bright:
**exact** is the contribution of each position to the logit (CAM, for this network), **negated** its negative,
**edges** the distance of the image from its mean, which asks no network, **noise** one random map whatever the
image, **uniform** the same value everywhere. Every metric is undefined for a method that calls its map degenerate
(zeros, NaN). None of them ranks the ladder: they tell what a method depends on, not where it points.
"""
_MODELS = """
## Between models

`medxai.metrics.intermodel` on one planted film. The second model is the first, reacting a third as much. The area
of deletion on each model, in the order of the exact map and of noise: the columns compare maps, and how robust a
model is moves its row alone.
"""


@dataclass(frozen=True)
class Known:
    """A method whose merit is known: what `change` makes of the exact maps and the images."""

    change: Callable[[Tensor, Tensor], Tensor]

    def attribute(self, model: nn.Module, images: Tensor, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        exact = CAM(layer="3").attribute(model, images, targets)
        return tuple(
            replace(one, maps=self.change(one.maps, images), status=(Status(),) * len(images)) for one in exact
        )


METHODS = {
    "exact": Known(lambda maps, images: maps),  # noqa: ARG005
    "negated": Known(lambda maps, images: -maps),  # noqa: ARG005
    "edges": Known(lambda maps, images: (images - images.mean((1, 2, 3), keepdim=True)).abs()[:, 0]),  # noqa: ARG005
    "noise": Known(lambda maps, images: _noise(maps[0]).expand_as(maps)),  # noqa: ARG005
    "uniform": Known(lambda maps, images: torch.ones_like(maps)),  # noqa: ARG005
}


def sections() -> list[str]:
    """The lines of the page from the metrics of a probe on."""
    return [_PROBED, *probes(), _TRIED, *methods(), _MODELS, *models(), *_words()]


def probes() -> Iterable[str]:
    """One row per metric of a probe: what the maps of the ladder and the uniform map score, mean over films."""
    scenes = [planted(SHAPES["2D"], seed) for seed in range(FILMS)]
    yield from _head(("better", "perfect", *RUNGS[1:], "uniform", "ranks"))
    for row in _rows("probe"):
        found = [[row.fn(probe.of(one)) for one in _maps(ladder)] for probe, ladder in scenes]
        yield _line(row.name, [row.better, *map(_mean, zip(*found, strict=True)), ranks(row)])


def methods() -> Iterable[str]:
    """One row per metric of a method: what methods of known merit score."""
    images = torch.stack([planted(SHAPES["2D"], seed)[0].image for seed in range(FILMS)])
    tried = [Trial(method, _network(), images, ClassScore(1), link="softmax") for method in METHODS.values()]
    yield from _head(("better", *METHODS))
    for row in _rows("method"):
        yield _line(row.name, [row.better, *(_said(row.fn(trial)) for trial in tried)])


def models() -> Iterable[str]:
    """The matrix of an exact map and of noise, on a model and on a calmer one."""
    probe, ladder = planted(SHAPES["2D"], 0)
    calm = replace(probe, saliency=ladder["random"], score=lambda images: 0.5 + (probe.score(images) - 0.5) / 3)
    yield from _head(("exact map", "noise"))
    for name, areas in zip(("first model", "second model"), inter_model([probe, calm]).area.tolist(), strict=True):
        yield _line(name, map(_said, areas))


def ranks(row: MetricSpec) -> str:
    """The maps that the metric promises to rank, in order."""
    names = ["perfect" if rung == "exact" else rung for rung in row.claims]
    return "all" if row.claims == RUNGS else " > ".join(names) or "none"


def _network() -> nn.Module:
    """Averages over 3 x 3 pixels what is brighter than 0.4, twice; which speaks for class 1 and against 0."""
    first, second, head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
    for layer, weight, bias in ((first, 1 / 9, -0.4), (second, 1 / 36, 0.0), (head, 0.0, 0.0)):
        nn.init.constant_(layer.weight, weight)
        nn.init.constant_(layer.bias, bias)
    nn.init.constant_(head.weight[0], -5.0)
    nn.init.constant_(head.weight[1], 25.0)
    nn.init.constant_(head.bias[1], -1.0)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()


def _noise(like: Tensor) -> Tensor:
    return torch.rand(like.shape, generator=torch.Generator().manual_seed(1))


def _maps(ladder: Mapping[str, Tensor]) -> list[Tensor]:
    return [*(ladder[rung] for rung in RUNGS), torch.ones_like(ladder["exact"])]


def _rows(needs: Needs) -> list[MetricSpec]:
    return [row for row in catalog.metrics().values() if row.needs == needs]


def _words() -> Iterable[str]:
    yield "\n### In words\n"
    yield from (f"* `{row.name}`: {row.summary}" for row in (*_rows("probe"), *_rows("method")))


def _head(columns: Sequence[str]) -> tuple[str, str]:
    return f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"


def _line(name: str, cells: Iterable[str]) -> str:
    return f"| `{name}` | {' | '.join(cells)} |" if " " not in name else f"| {name} | {' | '.join(cells)} |"


def _mean(values: Sequence[float]) -> str:
    defined = [value for value in values if not isnan(value)]
    return _said(fmean(defined)) if len(defined) == len(values) else "undefined"


def _said(value: float) -> str:
    return "undefined" if isnan(value) else f"{0.0 if abs(value) < 5e-4 else value:.3f}"
