"""When a map says nothing: judged once, where the numbers arise."""

from collections.abc import Sequence

from torch import Tensor

from medxai.core.saliency import Status
from medxai.shapes import Maps, Scores

_NOISE = 1e-9


def judge(raw: Maps, maps: Maps, scores: Scores, reaction: Scores) -> tuple[Status, ...]:
    """The status of each sample's map: `raw` before and `maps` after the method discarded negative evidence.

    `reaction` bounds how much of the score the layer can explain. Below a billionth of the score it is rounding noise,
    as behind a saturated softmax, however structured it looks.
    """
    return tuple(Status(_reason(*sample)) for sample in zip(raw, maps, scores, reaction, strict=True))


def _reason(raw: Tensor, kept: Tensor, score: Tensor, reaction: Tensor) -> str:
    if not bool(score.isfinite()):
        return "the score is not finite"
    if not bool(raw.isfinite().all()):
        return "the map is not finite"
    silences = {
        "zero gradient": float(reaction) == 0,
        "vanishing gradient": float(reaction) <= _NOISE * float(score.abs()),
        "zero map": not bool(raw.any()),
        "no positive evidence": not bool(kept.any()),
        "constant map": kept.numel() > 1 and bool((kept == kept.flatten()[0]).all()),
    }
    return next((reason for reason, holds in silences.items() if holds), "")


def saturation(output: object, scores: Sequence[Scores]) -> tuple[str, ...]:
    """A notice where the model answers probabilities and one that is explained lies near 1: its gradient dies out."""
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] < 2:
        return ()
    sums = output.detach().sum(1)
    probabilities = bool((output >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all())
    if not probabilities or not any(bool((score > 0.999).any()) for score in scores):
        return ()
    return ("the model answers probabilities and the explained one is saturated: explain logits instead",)
