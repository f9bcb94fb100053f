"""When a map says nothing: judged once, where the numbers arise."""

from collections.abc import Sequence

from torch import Tensor

from medxai.core.saliency import Status
from medxai.shapes import Maps, Scores

_NOISE = 1e-9


def judge(
    raw: Maps, maps: Maps, scores: Scores, reaction: Scores | None = None, cause: str = "gradient"
) -> tuple[Status, ...]:
    """The status of each sample's map: `raw` before and `maps` after the method discarded negative evidence.

    `reaction` bounds how much of the score the method can explain, by its `cause`. Below a billionth of the score it is
    rounding noise, as behind a saturated softmax, however structured it looks. A method that does not look at the score
    has none.
    """
    bounds = [None] * len(raw) if reaction is None else list(reaction)
    return tuple(Status(_reason(*sample, cause)) for sample in zip(raw, maps, scores, bounds, strict=True))


def _reason(raw: Tensor, kept: Tensor, score: Tensor, reaction: Tensor | None, cause: str) -> str:
    if not bool(score.isfinite()):
        return "the score is not finite"
    if not bool(raw.isfinite().all()):
        return "the map is not finite"
    silences = {
        f"zero {cause}": reaction is not None and float(reaction) == 0,
        f"vanishing {cause}": reaction is not None and float(reaction) <= _NOISE * float(score.abs()),
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
