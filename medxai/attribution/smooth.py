"""Smooth Grad-CAM++: the same question asked of many noisy copies of the image."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from medxai.attribution.cam import WeightedMap
from medxai.attribution.evidence import Evidence
from medxai.attribution.gradient_cams import plus_plus_alpha, positions_summed
from medxai.attribution.passes import Pass
from medxai.core.layer import Layer
from medxai.core.protocols import Attribution, Traits
from medxai.errors import LayerError
from medxai.model.capture import Captured, capture
from medxai.shapes import Features, Images, Scores, Weights

Moments = tuple[Tensor, Tensor, Tensor]


class NoisyEvidence(Evidence):
    """Evidence whose gradient is the mean over noisy copies; `moments` are the means of g, g^2 and g^3."""

    def __init__(self, captured: Captured, scores: Scores, moments: Moments) -> None:
        super().__init__(captured, scores)
        self.moments = moments
        self.G = moments[0]


@dataclass(frozen=True, kw_only=True)
class SmoothGradCAMPlusPlus(WeightedMap):
    """map = relu(sum_k w_k A_k) with w_k = sum_u alpha_k(u) relu(E g_k(u)) (Omeiza et al. 2019).

    alpha = E g^2 / (2 E g^2 + S_k E g^3), where g = dy/dA and E is the mean over `n` copies of the image, each with
    Gaussian noise; A and S_k, the sum of A_k over positions, are those of the clean image. With n=1 and noise=0 it is
    Grad-CAM++.

    `noise` is the standard deviation as a share of each sample's intensity range (SmoothGrad's 0.15; the paper adds an
    absolute one, which means nothing across modalities). `correlation` is the standard deviation, in voxels, of the
    Gaussian that the noise is smoothed with, then rescaled: white noise hardly survives the first pooling of a volume.
    The noise comes from torch's generator and is the same for every sample of a batch. `channels` are the features
    that count, `region` the cells (i, j[, k]) whose gradients count; all where None. `batch` noisy images run at once.
    """

    traits: ClassVar[Traits] = Traits(cost="nF + nB", random=True)
    n: int = 25
    noise: float = 0.15
    correlation: float = 0.0
    channels: tuple[int, ...] | None = None
    region: tuple[tuple[int, ...], ...] | None = None
    batch: int = 8

    def read(self, seen: Pass, captured: Captured) -> tuple[Attribution, ...]:
        pairs = zip(seen.scores, self._moments(seen, captured.layer), strict=True)
        return tuple(self.explain(NoisyEvidence(captured, *pair), captured.layer, seen.remarks) for pair in pairs)

    def weights(self, evidence: Evidence) -> Weights:
        _, square, cube = evidence.moments if isinstance(evidence, NoisyEvidence) else _powers(evidence.G)
        g = evidence.G * self._kept(evidence.A)
        alpha, crossed = plus_plus_alpha(square, cube, positions_summed(evidence.A), g > 0)
        evidence.notices.extend(crossed)
        return (alpha * g.relu()).flatten(2).sum(2)

    def _moments(self, seen: Pass, layer: Layer) -> list[Moments]:
        """The means over noisy copies of g, g^2 and g^3, for each target."""
        size = len(seen.images)
        together = max(1, self.batch // size)
        sums: list[list[Moments]] = [[] for _ in seen.targets]
        for start in range(0, self.n, together):
            copies = [self._noisy(seen.images) for _ in range(start, min(start + together, self.n))]
            with capture(seen.network, layer) as captured:
                output = seen.network(torch.cat(copies))
            for target, total in zip(seen.targets, sums, strict=True):
                with torch.enable_grad():
                    scores = torch.cat([target(_part(output, i, size)) for i in range(len(copies))])
                gradient = captured.gradient(scores)
                total[:] = [_added(total, _powers(gradient.view(len(copies), size, *gradient.shape[1:])))]
        return [(g / self.n, g2 / self.n, g3 / self.n) for total in sums for g, g2, g3 in total]

    def _noisy(self, images: Images) -> Images:
        noise = torch.randn(images.shape[1:], device=images.device)
        if self.correlation > 0:
            noise = _correlated(noise, self.correlation)
        flat = images.flatten(1)
        reach = (flat.amax(1) - flat.amin(1)).view(-1, *[1] * noise.ndim)
        return images + self.noise * reach * noise

    def _kept(self, A: Features) -> Tensor:
        """1 where a gradient counts, 0 elsewhere: (1, K, *cells)."""
        channels, sizes = A.shape[1], tuple(A.shape[2:])
        picks: dict[str, list[tuple[int, ...]]] = {
            "channels": [(c,) for c in self.channels or ()],
            "region": list(self.region or ()),
        }
        for (name, picked), limits in zip(picks.items(), ((channels,), sizes), strict=True):
            beyond = [p for p in picked if len(p) != len(limits) or not all(map(_below, p, limits))]
            if beyond:
                raise LayerError(
                    f"The layer has no such {name}.", expected=f"indices below {limits}", found=f"{beyond}"
                )
        features = torch.ones(channels, device=A.device)
        if self.channels is not None:
            features = torch.zeros_like(features)
            features[list(self.channels)] = 1
        cells = torch.ones(sizes, device=A.device)
        if self.region is not None:
            cells = torch.zeros_like(cells)
            cells[tuple(torch.tensor(self.region, device=A.device).T)] = 1
        return features.view(1, -1, *[1] * len(sizes)) * cells


def _powers(g: Tensor) -> Moments:
    return g, g.square(), g.pow(3)


def _added(total: list[Moments], copies: Moments) -> Moments:
    g, square, cube = (power.sum(0) for power in copies)
    return (total[0][0] + g, total[0][1] + square, total[0][2] + cube) if total else (g, square, cube)


def _below(index: int, size: int) -> bool:
    return 0 <= index < size


def _part(output: object, index: int, size: int) -> object:
    """What copy `index` of a batch of `size` images answered."""
    return tree_map_only(Tensor, lambda leaf: leaf[index * size : (index + 1) * size], output)


def _correlated(noise: Tensor, deviation: float) -> Tensor:
    """White noise (c, *space) smoothed by a periodic Gaussian of that many voxels, its variance restored exactly."""
    axes = tuple(range(1, noise.ndim))
    frequencies = torch.meshgrid(*[torch.fft.fftfreq(n, device=noise.device) for n in noise.shape[1:]], indexing="ij")
    squared = sum((f.square() for f in frequencies), torch.zeros((), device=noise.device))
    filter_ = torch.exp(-2 * (torch.pi * deviation) ** 2 * squared)
    smooth: Tensor = torch.fft.ifftn(torch.fft.fftn(noise, dim=axes) * filter_, dim=axes).real
    return smooth / filter_.square().mean().sqrt()


METHODS = (SmoothGradCAMPlusPlus,)
