"""KPCA-CAM: what a layer varies in along a curve instead of a line."""

from dataclasses import dataclass
from math import ceil, prod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from medxai.attribution.cam import LayerMap
from medxai.attribution.evidence import Evidence
from medxai.attribution.principal import aligned
from medxai.core.protocols import Traits
from medxai.shapes import Features, Maps

Kernel = Literal["sigmoid", "rbf"]


@dataclass(frozen=True, kw_only=True)
class KPCACAM(LayerMap):
    """The coordinate of each cell along the first kernel principal component of A (Karmani et al. 2024).

    Each channel is centred over positions. kernel(a, b) is tanh(gamma a.b + 1) or exp(-gamma |a - b|^2), gamma 1/K
    by default. The component is found among at most `landmarks` cells: where the layer has more, among the averages of
    equal blocks of cells, and a notice says so; every cell is then projected on it. The sign is the one that correlates
    with mean_k |A_k|. Class-agnostic.
    """

    traits: ClassVar[Traits] = Traits(reads="activation", cost="1F")
    relu: bool = False
    kernel: Kernel = "sigmoid"
    gamma: float | None = None
    landmarks: int = 4096

    def map(self, evidence: Evidence) -> Maps:
        coordinates, blocks = evidence.shared(self._component)
        if blocks < coordinates[0].numel():
            evidence.notices.append(
                f"the kernel component was found among {blocks} averaged blocks of the layer's cells"
            )
        return aligned(coordinates, evidence.A.abs().mean(1))

    def _component(self, A: Features) -> tuple[Maps, int]:
        """Each cell's coordinate, of arbitrary sign, and among how many blocks of cells the component was found."""
        pooled = _pooled(A, self.landmarks)
        mean = A.flatten(2).mean(2)
        found = [self._one(A[i], pooled[i], mean[i]) for i in range(len(A))]
        return torch.stack(found).view(len(A), *A.shape[2:]), pooled[0, 0].numel()

    def _one(self, cells: Tensor, pooled: Tensor, mean: Tensor) -> Tensor:
        marks = (pooled.flatten(1).T - mean).double()
        if not bool(marks.isfinite().all()):
            return torch.full((cells[0].numel(),), torch.nan, device=cells.device)
        kernel = self._kernel(marks, marks)
        average = kernel.mean(0)
        whole = average.mean()
        value, vector = _leading(kernel - average - average[:, None] + whole)
        if value <= 0:
            return torch.zeros(cells[0].numel(), device=cells.device)
        vector = vector - vector.mean()
        lines = [
            (self._kernel(some.double(), marks) - average) @ vector
            for some in torch.split(cells.flatten(1).T - mean, len(marks))
        ]
        return (torch.cat(lines) / value.sqrt()).float()

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        gamma = 1 / a.shape[1] if self.gamma is None else self.gamma
        if self.kernel == "sigmoid":
            return torch.tanh(gamma * (a @ b.T) + 1)
        return torch.exp(-gamma * torch.cdist(a, b).square())


def _pooled(features: Tensor, most: int) -> Tensor:
    """The features, each axis averaged in blocks of one common size, the smallest that leaves at most `most` cells."""
    sizes, block = features.shape[2:], 1
    while prod(ceil(size / block) for size in sizes) > most:
        block += 1
    for axis, size in enumerate(sizes, start=2):
        if block > 1:
            blocks = features.tensor_split(ceil(size / block), axis)
            features = torch.stack([one.mean(axis) for one in blocks], axis)
    return features


def _leading(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The largest eigenvalue of a symmetric matrix and its vector."""
    n = len(matrix)
    if n <= 512:
        values, vectors = torch.linalg.eigh(matrix)
        return values[-1], vectors[:, -1]
    from scipy.sparse.linalg import eigsh

    start = torch.linspace(-1, 1, n, dtype=torch.float64).cos().numpy()
    value, vector = eigsh(matrix.cpu().numpy(), k=1, which="LA", v0=start)
    return torch.from_numpy(value)[0].to(matrix.device), torch.from_numpy(vector)[:, 0].to(matrix.device)


METHODS = (KPCACAM,)
