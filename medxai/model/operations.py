"""Tensor operations by name, and one of them as it was called on what sees the image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medxai.model.field import Field, Lost, lost_in, prefix_of

ACTIVATIONS = frozenset(
    [
        "relu",
        "leaky_relu",
        "prelu",
        "rrelu_with_noise",
        "elu",
        "silu",
        "gelu",
        "mish",
        "hardswish",
        "hardsigmoid",
        "hardtanh",
        "sigmoid",
        "tanh",
        "softplus",
        "log_sigmoid_forward",
        "threshold",
        "hardshrink",
        "softshrink",
        "glu",
        "clamp",
        "clamp_min",
    ]
)
NORMS = frozenset(
    [
        "native_batch_norm",
        "_native_batch_norm_legit",
        "_native_batch_norm_legit_no_training",
        "_batch_norm_with_update",
        "cudnn_batch_norm",
        "miopen_batch_norm",
        "native_group_norm",
        "native_layer_norm",
        "_fused_rms_norm",
    ]
)
LINEAR = frozenset(("convolution", "mm", "addmm", "bmm", "baddbmm"))
VIEWS = frozenset(
    [
        "view",
        "_unsafe_view",
        "reshape",
        "permute",
        "transpose",
        "t",
        "unsqueeze",
        "squeeze",
        "expand",
        "alias",
        "detach",
        "clone",
        "contiguous",
        "_to_copy",
        "lift_fresh",
        "native_dropout",
    ]
)
PICKS = frozenset(("select", "slice", "split", "split_with_sizes", "unbind"))
OPERANDS = {
    "mm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "bmm": ("self", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One operation and output number `position` of it; `fields` holds, by id, each argument that sees the image."""

    name: str
    args: Mapping[str, Any]
    fields: Mapping[int, Field]
    pointwise: bool
    out: Tensor
    position: int

    def field(self, tensor: object) -> Field | None:
        return self.fields.get(id(tensor))

    @property
    def attends(self) -> bool:
        """Whether cells are mixed by weights that are themselves made from the image."""
        if self.name.startswith(("_scaled_dot_product", "_native_multi_head_attention")):
            return True
        operands = OPERANDS.get(self.name)
        return operands is not None and all(self.field(self.args[x]) is not None for x in operands)

    @property
    def picks_prefix(self) -> bool:
        """Whether it keeps nothing but tokens that stand before the image's."""
        if self.name not in PICKS:
            return False
        tensor, field = self.subject
        if not any(prefix_of(dim) for dim in field.dims):
            return False
        dim = self.args["dim"] % tensor.ndim
        before = {"select": "index", "slice": "start"}.get(self.name)
        if before:
            start = int(self.args[before] or 0) % int(tensor.shape[dim])
        else:
            parts = self.args.get("split_sizes", self.args.get("split_size", 1))
            start = int(parts * self.position if isinstance(parts, int) else sum(parts[: self.position]))
        n = int(self.out.shape[dim]) if self.out.ndim == tensor.ndim else 1
        return start + n <= prefix_of(field.dims[dim])

    def unknown(self) -> Field:
        """The field of an output whose cells cannot be followed; attention is told apart from other mixing."""
        mixed = lost_in([dim for field in self.fields.values() for dim in field.dims], self.name)
        attends = self.attends or self.name in OPERANDS
        return Field.unknown(tuple(self.out.shape), Lost(self.name, True) if mixed and attends else mixed)

    @property
    def subject(self) -> tuple[Tensor, Field]:
        """The first tensor argument that depends on the image."""
        return next((t, f) for t in self.args.values() if isinstance(t, Tensor) and (f := self.field(t)) is not None)


Rule = Callable[[Call], Field]


def tensors(values: Any) -> list[Tensor]:
    """The tensors among arguments, however nested."""
    return [t for t in torch.utils._pytree.tree_leaves(list(values)) if isinstance(t, Tensor)]
