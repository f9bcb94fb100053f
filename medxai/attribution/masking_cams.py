"""CAMs whose channels weigh what they let the network see: Score-CAM, SS-CAM and IS-CAM."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from medxai.attribution.masking import Answers, Asked, Swept, moved
from medxai.attribution.masks import Masking, Masks, between_0_and_1
from medxai.core.layer import Layer
from medxai.core.protocols import Traits
from medxai.shapes import Features

ChannelNorm = Literal["relu_diff", "diff", "softmax", "raw"]


@dataclass(frozen=True, kw_only=True)
class ScoreWeighted(Masking):
    """map = relu(sum_k w_k A_k) with w_k = norm_k(s_k), s_k the score of the image seen through the mask of channel k.

    The mask is (A_k - min) / (max - min), laid on the image. With s_0 the score of the image faded altogether,
    `channel_norm` makes of the scores "relu_diff" [s_k - s_0]+, "diff" s_k - s_0, "softmax" over channels or
    "raw" s_k. The softmax of logits of spread 10 picks one or two channels, that of probabilities weighs all
    alike. A constant channel masks everything: it is not run, its score is s_0, and "raw" weighs it 0.
    """

    channel_norm: ChannelNorm = "relu_diff"

    @abstractmethod
    def variants(self, masks: Masks, channels: Tensor) -> Iterator[Masks]:
        """The masks (n, 1, *s) of these channels in each form whose score is averaged."""

    def sweep(self, asked: Asked, A: Features, layer: Layer) -> Swept:
        fading = self.fading(asked, layer)
        cells, live = between_0_and_1(A)
        nothing = asked(fading.empty)
        scores = nothing.repeat(1, A.shape[1])
        for channels in self.portions(live, *asked.image.shape):
            masks = fading.placed(cells[:, channels])
            found = [asked(fading(variant)) for variant in self.variants(masks, channels)]
            scores[:, channels] = torch.stack(found, -1).mean(-1)
        weights = _NORMS[self.channel_norm](scores, nothing, live)
        return Swept(weights, moved(scores, nothing[:, 0]), {"masks": float(len(live))}, fading.notices)


@dataclass(frozen=True, kw_only=True)
class ScoreCAM(ScoreWeighted):
    """map = relu(sum_k w_k A_k), w_k how much of the score returns where channel k lets the image through.

    Wang et al. 2020, whose scores are probabilities and weigh as they are: link="softmax", channel_norm="raw". Ours are
    the target's own, which may be any, against those of an image that shows nothing. See `ScoreWeighted`.
    """

    traits: ClassVar[Traits] = Traits(reads="score", cost="K F")

    def variants(self, masks: Masks, _channels: Tensor) -> Iterator[Masks]:
        yield masks


@dataclass(frozen=True, kw_only=True)
class SSCAM(ScoreWeighted):
    """Score-CAM whose s_k is the mean over `n` masks with Gaussian noise of `std` added (Wang et al. 2020).

    The noise of a channel depends on the seed and its number alone, not on batch, target or device. The published
    standard deviation is 2, with which masks between 0 and 1 drown and voxels leave the image's intensities; ours, 0.1,
    keeps them near.
    """

    traits: ClassVar[Traits] = Traits(reads="score", cost="n K F", random=True)
    n: int = 35
    std: float = 0.1

    def variants(self, masks: Masks, channels: Tensor) -> Iterator[Masks]:
        seeds = ((torch.initial_seed() * 2**20 + channel) % 2**63 for channel in channels.tolist())
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for _ in range(self.n):
            noise = torch.stack([torch.randn(masks.shape[1:], generator=one) for one in generators])
            yield masks + self.std * noise.to(masks)


@dataclass(frozen=True, kw_only=True)
class ISCAM(ScoreWeighted):
    """Score-CAM whose s_k is the mean over the masks j/n * mask, j = 1..n: a path from nothing (Naidu et al. 2020)."""

    traits: ClassVar[Traits] = Traits(reads="score", cost="n K F")
    n: int = 10

    def variants(self, masks: Masks, _channels: Tensor) -> Iterator[Masks]:
        for j in range(1, self.n + 1):
            yield masks * (j / self.n)


_NORMS: dict[ChannelNorm, Callable[[Answers, Tensor, Tensor], Answers]] = {
    "relu_diff": lambda scores, nothing, _live: (scores - nothing).relu(),
    "diff": lambda scores, nothing, _live: scores - nothing,
    "softmax": lambda scores, _nothing, _live: scores.softmax(1),
    "raw": lambda scores, _nothing, live: torch.zeros_like(scores).index_copy(1, live, scores[:, live]),
}
METHODS = (ScoreCAM, SSCAM, ISCAM)
