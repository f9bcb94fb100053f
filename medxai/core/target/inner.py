"""Targets inside a network: read what a layer emits, given as the output to explain (`output=Layer(name)`)."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medxai.core.target.protocol import at, check_classes, describe
from medxai.errors import TargetError
from medxai.shapes import Scores


@dataclass(frozen=True, slots=True)
class ChannelScore:
    """The mean over positions of one channel of (batch, channels, *cells): what this feature answers to."""

    channel: int

    def __call__(self, output: Any) -> Scores:
        return _channel(output, self.channel, self).flatten(1).mean(1)


@dataclass(frozen=True, slots=True)
class NeuronScore:
    """One channel at one cell of (batch, channels, *cells)."""

    channel: int
    cell: tuple[int, ...] = ()

    def __call__(self, output: Any) -> Scores:
        found = _channel(output, self.channel, self)
        grid = tuple(found.shape[1:])
        if len(self.cell) != len(grid) or not all(0 <= c < n for c, n in zip(self.cell, grid, strict=True)):
            raise TargetError(f"{self} names no cell.", expected=f"a cell of the grid {grid}", found=f"{self.cell}")
        return at(found, self.cell)


@dataclass(frozen=True, eq=False)
class SimilarityScore:
    """The cosine of the angle between the output, as one vector per sample, and an embedding.

    What makes this image like that one, where `embedding` is the output for another image.
    """

    embedding: Tensor

    def __call__(self, output: Any) -> Scores:
        wanted = self.embedding.detach().flatten()
        if not isinstance(output, Tensor) or output.ndim < 2 or output[0].numel() != wanted.numel():
            raise TargetError(
                "SimilarityScore compares embeddings.",
                expected=f"an output of {wanted.numel()} numbers per sample",
                found=describe(output),
            )
        return torch.cosine_similarity(output.flatten(1), wanted.to(output)[None], dim=1)

    def __repr__(self) -> str:
        values = self.embedding.detach().cpu().contiguous().numpy()
        digest = hashlib.sha256(values.tobytes()).hexdigest()
        return f"SimilarityScore(embedding={tuple(values.shape)}, sha256 {digest[:16]})"


def _channel(output: Any, channel: int, target: object) -> Tensor:
    check_classes((channel,), target)
    if not isinstance(output, Tensor) or output.ndim < 2 or not 0 <= channel < output.shape[1]:
        raise TargetError(
            f"{target} reads one channel.",
            expected=f"a tensor (batch, channels, *cells) with more than {channel} channels",
            found=describe(output),
        )
    return output[:, channel]
