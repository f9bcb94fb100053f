"""When a map says nothing: judged once, where the numbers arise."""

from collections.abc import Sequence

from torch import Tensor

from medxai.core.saliency import Status
from medxai.core.target import RegionScore, Target
from medxai.shapes import Maps, Scores

_NOISE = 1e-9
_ROUNDING = 1e-5
_FLAT = 1e-6


def judge(
    raw: Maps,
    maps: Maps,
    scores: Scores,
    reaction: Scores | None = None,
    cause: str = "gradient",
    gross: Scores | None = None,
) -> tuple[Status, ...]:
    """The status of each sample's map: `raw` before and `maps` after the method discarded negative evidence.

    Cells that differ by a millionth of the largest are a constant map and its rounding.
    `reaction` bounds how much of the score the method can explain, by its `cause`. Below a billionth of the score it is
    rounding noise, as behind a saturated softmax, however structured it looks. A method that does not look at the score
    has none. `gross` is what a cell could have held had no two channels cancelled; a map 1e-5 as strong is the rounding
    of that sum, as that of g * A before a layer norm, to whose input the gradient is orthogonal.
    """
    bounds, sums = ([None] * len(raw) if given is None else list(given) for given in (reaction, gross))
    return tuple(Status(_reason(*sample, cause)) for sample in zip(raw, maps, scores, bounds, sums, strict=True))


def _reason(raw: Tensor, kept: Tensor, score: Tensor, reaction: Tensor | None, gross: Tensor | None, cause: str) -> str:
    if not bool(score.isfinite()):
        return "the score is not finite"
    if not bool(raw.isfinite().all()):
        return "the map is not finite"
    silences = {
        f"zero {cause}": reaction is not None and float(reaction) == 0,
        f"vanishing {cause}": reaction is not None and float(reaction) <= _NOISE * float(score.abs()),
        "zero map": not bool(raw.any()),
        "the channels cancel to rounding": gross is not None and float(raw.abs().max()) <= _ROUNDING * float(gross),
        "no positive evidence": not bool(kept.any()),
        "constant map": kept.numel() > 1 and bool(kept.amax() - kept.amin() <= _FLAT * kept.abs().amax()),
    }
    return next((reason for reason, holds in silences.items() if holds), "")


def saturation(output: object, scores: Sequence[Scores]) -> tuple[str, ...]:
    """A notice where the model answers probabilities and one that is explained lies near 1: its gradient dies out.

    Numbers between 0 and 1, of softmax or sigmoid, are taken for probabilities.
    """
    if not isinstance(output, Tensor) or output.ndim != 2:
        return ()
    probabilities = bool(((output >= 0) & (output <= 1)).all())
    if not probabilities or not any(bool(((score > 0.999) & (score <= 1)).any()) for score in scores):
        return ()
    return ("the model seems to answer probabilities and the explained one is saturated: explain logits instead",)


def vacancy(targets: Sequence[Target]) -> tuple[str, ...]:
    """A notice for each class whose region, settled or given, holds no voxel of any image."""
    regions = [target for target in targets if isinstance(target, RegionScore) and target.region is not None]
    empty = dict.fromkeys(one.index for one in regions if one.region is not None and not bool(one.region.any()))
    return tuple(f"the region of class {index} is empty: there is nothing to explain" for index in empty)
