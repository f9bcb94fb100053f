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
    if gradient is not None and not bool(gradient.any()):
        return "zero gradient"
    if not bool(raw.any()):
        return "zero map"
    if not bool(kept.any()):
        return "no positive evidence"
    if kept.numel() > 1 and bool((kept == kept.flatten()[0]).all()):
        return "constant map"
    return ""
