"""Opti-CAM: the mixture of channels through which the network sees most of the score."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from medxai.attribution.masking import Answers, Asked, PerTarget, Swept, moved
from medxai.attribution.masks import Fading, Masking, between_0_and_1
from medxai.core.layer import Layer
from medxai.core.protocols import Traits
from medxai.shapes import Features

Mixtures = Float[Tensor, "t k"]


@dataclass(frozen=True, kw_only=True)
class OptiCAM(Masking):
    """map = gain * sum_k w_k A_k / max |A_k|, w = softmax(v), v by Adam so that y(x seen through the map) is highest.

    The map, between 0 and 1 and laid on the image, is the mask; what it covers fades to `baseline` (see Score-CAM).
    gain = y(masked) - y(faded altogether): the published map has no scale, ours that of the score, and is no evidence
    at all where the mixture does no better than to show nothing. Channels are mixed after division by their peaks, so
    that v = 0 shows them alike; published code mixes them as they are, and a faint channel may never get a gradient.
    Each target has its own mixture; as many as `voxels` allows are sought at once. All `steps` are taken at learning
    rate `rate`; the loss is "plain", y(x) - y(masked) (Zhang et al. 2024).
    """

    traits: ClassVar[Traits] = Traits(reads="score", cost="T (F + B)", shared=False, sufficient=True)
    steps: int = 100
    rate: float = 0.1

    def sweep(self, asked: Asked, A: Features, layer: Layer) -> Swept:
        fading = self.fading(asked, layer)
        nothing = asked(fading.empty)[:, 0]
        several = self.portions(torch.arange(len(nothing)), *asked.image.shape)
        found = [self._sought(asked.about(targets.tolist()), A, fading) for targets in several]
        mixtures, scores = torch.cat([one for one, _ in found]), torch.cat([score for _, score in found])
        gain = scores[:, -1] - nothing
        return Swept(gain[:, None] * mixtures / _peaks(A), moved(scores, nothing), {}, fading.notices)

    def _sought(self, asked: Asked, A: Features, fading: Fading) -> tuple[Mixtures, Answers]:
        """The mixture of each target, and its score after every step."""
        logits = A.new_zeros(len(asked.seen.targets), A.shape[1], requires_grad=True)
        adam = torch.optim.Adam([logits], lr=self.rate, maximize=True)
        found = []
        for _ in range(self.steps):
            with torch.enable_grad():
                scores = self._seen(asked, A, fading, logits)
                (logits.grad,) = torch.autograd.grad(scores.sum(), logits)
            adam.step()
            found.append(scores.detach())
        logits = logits.detach()
        found.append(self._seen(asked, A, fading, logits))
        return logits.softmax(1), torch.stack(found, 1)

    def _seen(self, asked: Asked, A: Features, fading: Fading, logits: Mixtures) -> PerTarget:
        """The score of each target for the image seen through its own mixture."""
        mixed = torch.einsum("tk,k...->t...", logits.softmax(1) / _peaks(A), A[0])
        masks, _ = between_0_and_1(mixed[None])
        scores: PerTarget = asked(fading(fading.placed(masks))).diagonal()
        return scores


def _peaks(A: Features) -> Float[Tensor, " k"]:
    """max |A_k|, and 1 where the channel is 0 everywhere."""
    peaks = A[0].flatten(1).abs().amax(1)
    return torch.where(peaks == 0, 1.0, peaks)


METHODS = (OptiCAM,)
