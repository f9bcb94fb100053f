"""Do two runs of a network answer the same?"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


def tensors(value: Any) -> list[Tensor]:
    """The tensors of an answer, in their order."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def alike(found: Any, wanted: Any, n: int = 1) -> bool:
    """Whether `found` is `wanted`, `n` times over, but for rounding."""
    pairs = tensors(found), tensors(wanted)
    return len(pairs[0]) == len(pairs[1]) and all(_close(f, w, n) for f, w in zip(*pairs, strict=True))


def _close(found: Tensor, wanted: Tensor, n: int) -> bool:
    """Equal but for rounding, which on a GPU depends on the batch size down to three digits."""
    if found.numel() == n * wanted.numel() and wanted.ndim:
        wanted = wanted.expand(n, *wanted.shape).reshape(found.shape)
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    if not wanted.is_floating_point():
        return torch.equal(found, wanted)
    scale = float(wanted.nan_to_num(0, 0, 0).abs().max()) if wanted.numel() else 0.0
    tolerance = 1e-4 if wanted.device.type == "cpu" else 2e-3
    return torch.allclose(found, wanted, rtol=0, atol=tolerance * scale, equal_nan=True)
