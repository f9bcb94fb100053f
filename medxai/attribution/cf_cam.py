"""CF-CAM: channels that say the same share a weight, channels that say nothing in common are dropped."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from medxai.attribution.cam import WeightedMap
from medxai.attribution.clusters import NOISE, Distance, dbscan, quantile, squared_distances
from medxai.attribution.evidence import Evidence
from medxai.shapes import Features, Weights

Variant = Literal["class_sensitive", "as_published"]
Groups = tuple[Tensor, Tensor]
Mean = Callable[[Tensor], Tensor]
ALONE = "in some images no channels form a cluster: there the map is that of Grad-CAM"


@dataclass(frozen=True, kw_only=True)
class CFCAM(WeightedMap):
    """map = relu(sum_k w_k A_k) over channels that are strong or belong to a cluster (He et al. 2025).

    Channels whose norm is in the top quarter (`important`) weigh mean_u g_k, g = dy/dA, as in Grad-CAM. DBSCAN on the
    others (reach: the `reach` quantile of their distances; a core has `density` of them around it, at least 2) drops
    those in no cluster; those of one share the mean of their filtered mean gradient. The clusters do not depend on the
    target, are the same every time, and take 8 K^2 bytes a few times over, not K^2 n.

    Variant "as_published" adds what the authors' code does: a softmax over the weights, which makes them nearly equal
    (mean gradients are of the order 1/n) and so nearly erases the class, and a kernel of the gradient's own shape as
    its filter. "class_sensitive" takes the weights as they are, and a Gaussian of `sigma` cells. Where nothing
    clusters it is Grad-CAM and says so. Sharing weights lowers the power that gradient noise has in the map, and that
    of the evidence with it: the map need not be steadier than Grad-CAM's.
    """

    variant: Variant = "class_sensitive"
    important: float = 0.75
    distance: Distance = "euclidean"
    reach: float = 0.25
    density: float = 0.05
    sigma: float = 1.0

    def weights(self, evidence: Evidence) -> Weights:
        groups = evidence.shared(self._groups)
        if self.variant == "class_sensitive" and any(one is not None and int(one[0].max()) < 0 for one in groups):
            evidence.notices.append(ALONE)
        filtered = _published_mean if self.variant == "as_published" else self._filter(evidence.G[0, 0])
        found = [self._one(one, g, filtered) for one, g in zip(groups, evidence.G, strict=True)]
        return torch.stack(found).to(evidence.A.dtype)

    def _one(self, groups: Groups | None, g: Tensor, filtered: Mean) -> Tensor:
        """Weight of each channel of a sample; `filtered` is the mean over cells of a gradient that was filtered."""
        own = g.flatten(1).double().mean(1)
        if groups is None:
            return torch.full_like(own, torch.nan)
        labels, strong = groups
        count = int(labels.max()) + 1
        if count == 0 and self.variant == "class_sensitive":
            return own
        weights = torch.where(strong, own, 0.0)
        for cluster in range(count):
            members = labels == cluster
            weights[members] = filtered(g[members].double().mean(0))
        if self.variant == "class_sensitive":
            return weights
        kept = strong | (labels != NOISE)
        return torch.softmax(weights.masked_fill(~kept, -torch.inf), 0)

    def _groups(self, A: Features) -> tuple[Groups | None, ...]:
        """What `_clustered` says of each sample; nothing of one that is not finite."""
        return tuple(self._clustered(one) if bool(one.isfinite().all()) else None for one in A.flatten(2))

    def _clustered(self, cells: Tensor) -> Groups:
        """Cluster of each channel (NOISE where none), and which channels are strong: these belong to no cluster."""
        norms = torch.linalg.vector_norm(cells.double(), dim=1)
        strong = norms >= torch.quantile(norms, self.important)
        labels = torch.full((len(cells),), NOISE, device=cells.device)
        others = int((~strong).sum())
        if others > (1 if self.variant == "as_published" else 2):  # two have one distance: they would always be near
            squares = squared_distances(cells[~strong], self.distance)
            reach = max(1e-5, quantile(squares, self.reach))
            found = dbscan(squares, reach, max(2, int(self.density * others)))
            labels[~strong] = torch.from_numpy(found).to(labels.device)
        return labels, strong

    def _filter(self, like: Tensor) -> Mean:
        """The mean of a Gaussian-filtered gradient is its inner product with a share of each of the cells of `like`."""
        share = torch.ones((), dtype=torch.float64, device=like.device)
        for size in like.shape:
            place = torch.arange(size, dtype=torch.float64, device=like.device)
            kernel = torch.exp(-(place[:, None] - place).square() / (2 * self.sigma**2))
            share = share[..., None] * (kernel / kernel.sum(1, keepdim=True)).mean(0)
        return lambda gradient: (share * gradient).sum()


def _published_mean(gradient: Tensor) -> Tensor:
    """The mean of the gradient correlated ("same" padding) with a kernel made of its own values.

    kernel(u) ~ exp(-|u - size / 2|^2 / (2 * 5^2)) exp(-(g(u) - mean g)^2 / (2 * 0.1^2)), of sum 1. Only the mean is
    needed, and it is sum_v kernel(v) B(v), where B(v) sums the gradient cells that meet kernel cell v.
    """
    kernel = torch.exp(-(gradient - gradient.mean()).square() / (2 * 0.1**2))
    met = gradient
    for axis, size in enumerate(gradient.shape):
        place = torch.arange(size, dtype=torch.float64, device=gradient.device)
        near = torch.exp(-(place - size / 2).square() / (2 * 5.0**2))
        kernel = kernel * near.view([-1 if i == axis else 1 for i in range(gradient.ndim)])
        shift = place[None, :] - place[:, None] + (size - 1) // 2
        reached = ((shift >= 0) & (shift < size)).double()
        met = torch.movedim(torch.tensordot(reached, met, dims=([1], [axis])), 0, axis)
    return (kernel * met).sum() / (kernel.sum() + 1e-6) / gradient.numel()


METHODS = (CFCAM,)
