"""Tensor operations by name, and one of them as it was called on what sees the image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medxai.model.field import Field, Lost, lost_in

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

    def unknown(self) -> Field:
        """The field of an output whose cells cannot be followed; attention is told apart from other mixing."""
        mixed = lost_in([dim for field in self.fields.values() for dim in field.dims], self.name)
        attends = self.name in OPERANDS or self.name.startswith("_scaled_dot_product")
        return Field.unknown(tuple(self.out.shape), Lost(self.name, True) if mixed and attends else mixed)

    @property
    def subject(self) -> tuple[Tensor, Field]:
        """The first tensor argument that depends on the image."""
        return next((t, f) for t in self.args.values() if isinstance(t, Tensor) and (f := self.field(t)) is not None)


Rule = Callable[[Call], Field]


def tensors(values: Any) -> list[Tensor]:
    """The tensors among arguments, however nested."""
    return [t for t in torch.utils._pytree.tree_leaves(list(values)) if isinstance(t, Tensor)]
