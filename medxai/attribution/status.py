"""When a map says nothing: judged once, where the numbers arise."""

from torch import Tensor

from medxai.core.saliency import Status
from medxai.shapes import Maps, Scores


def judge(raw: Maps, maps: Maps, scores: Scores, gradient: Tensor | None) -> tuple[Status, ...]:
    """The status of each sample's map: `raw` before and `maps` after the method discarded negative evidence."""
    return tuple(
        Status(_reason(raw[i], maps[i], bool(scores[i].isfinite()), None if gradient is None else gradient[i]))
        for i in range(len(maps))
    )


def _reason(raw: Tensor, kept: Tensor, finite_score: bool, gradient: Tensor | None) -> str:
    if not finite_score:
        return "the score is not finite"
    if not bool(raw.isfinite().all()):
        return "the map is not finite"
    silences = {
        "zero gradient": gradient is not None and not bool(gradient.any()),
        "zero map": not bool(raw.any()),
        "no positive evidence": not bool(kept.any()),
        "constant map": kept.numel() > 1 and bool((kept == kept.flatten()[0]).all()),
    }
    return next((reason for reason, holds in silences.items() if holds), "")
