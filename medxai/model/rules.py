"""How each tensor operation moves the field of view of the cells: one rule per family of ATen operations."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medxai.model.field import Dim, Field, Lost, along, axis_of, blank, lost_in, moved, origins, regroup, unite


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


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
        attends = self.name in _OPERANDS or self.name.startswith("_scaled_dot_product")
        return Field.unknown(tuple(self.out.shape), Lost(self.name, True) if mixed and attends else mixed)

    @property
    def subject(self) -> tuple[Tensor, Field]:
        """The first tensor argument that depends on the image."""
        return next((t, f) for t in self.args.values() if isinstance(t, Tensor) and (f := self.field(t)) is not None)


Number = int | float
Window = tuple[Number, Number, Number]
Rule = Callable[[Call], Field]


def propagate(call: Call) -> Field:
    """The field of the output; lost, by the name of the operation, where no rule holds."""
    rule = _pointwise if call.pointwise or call.name in ACTIVATIONS else _RULES.get(call.name)
    if rule is None or (call.position and call.name not in _MANY):
        return call.unknown()
    return rule(call)


def _carry(call: Call) -> Field:
    dims = call.subject[1].dims
    return Field(dims) if len(dims) == call.out.ndim else call.unknown()


def _pointwise(call: Call) -> Field:
    dims: list[Dim] = []
    parts = [(t, f) for t in _tensors(call.args.values()) if (f := call.field(t)) is not None]
    for back in range(call.out.ndim, 0, -1):
        same = [f.dims[-back] for t, f in parts if t.ndim >= back and t.shape[-back] == call.out.shape[-back]]
        dims.append(unite(same, call.name) if same else blank(call.out.shape[-back]))
    return Field(tuple(dims))


def _copy(call: Call) -> Field:
    source = call.field(call.args["src"])
    if source is None:
        return _constant(call)
    return Field(source.dims) if len(source.dims) == call.out.ndim else call.unknown()


def _constant(call: Call) -> Field:
    return Field.unknown(tuple(call.out.shape), None)


def _convolution(call: Call) -> Field:
    a = call.args
    weight = call.field(a["weight"])
    if call.field(a["input"]) is None or (weight and lost_in(weight.dims, call.name)):
        return call.unknown()
    kernel = a["weight"].shape[2:]
    n = len(kernel)
    windows = []
    for k, s, p, d in zip(kernel, *(_each(a[x], n) for x in ("stride", "padding", "dilation")), strict=True):
        reach = d * (k - 1)
        windows.append((1 / s, (p - reach) / s, p / s) if a["transposed"] else (s, -p, reach - p))
    return _windowed(call, windows)


def _pool(call: Call) -> Field:
    a = call.args
    n = len(a["kernel_size"])
    kernel = _each(a["kernel_size"], n)
    stride = _each(a["stride"], n) if a["stride"] else kernel
    dilation = _each(a.get("dilation", [1]), n)
    steps = zip(kernel, stride, _each(a["padding"], n), dilation, strict=True)
    return _windowed(call, [(s, -p, d * (k - 1) - p) for k, s, p, d in steps])


def _adaptive(call: Call) -> Field:
    tensor = call.subject[0]
    windows = []
    for size, cells in zip(tensor.shape[2:], call.out.shape[2:], strict=True):
        ratio = size / cells
        reach = math.ceil(ratio) - 1 + (size % cells != 0)
        windows.append((ratio, (ratio - 1 - reach) / 2, (ratio - 1 + reach) / 2))
    return _windowed(call, windows)


def _upsample(call: Call) -> Field:
    tensor = call.subject[0]
    n = call.out.ndim - 2
    scales = [call.args.get(name) for name in ("scales_d", "scales_h", "scales_w")[3 - n :]] if n > 1 else []
    scales = scales or [call.args.get("scales")]
    windows = []
    for size, cells, scale in zip(tensor.shape[2:], call.out.shape[2:], scales, strict=True):
        step = 1 / scale if scale else size / cells
        if "nearest" in call.name:
            half = 0.5 if "exact" in call.name else 0.0
            read = [min(int((i + half) * step), size - 1) for i in range(cells)]
            middle, reach = sum(r - i * step for i, r in enumerate(read)) / cells, 0.0
        elif call.args["align_corners"]:
            step = (size - 1) / (cells - 1) if cells > 1 else 0.0
            middle, reach = 0.0, 0.5
        else:
            middle, reach = (step - 1) / 2, 0.5
        windows.append((step, middle - reach, middle + reach))
    return _windowed(call, windows)


def _shuffle(call: Call) -> Field:
    r = call.args.get("upscale_factor") or call.args["downscale_factor"]
    middle = (1 - r) / (2 * r)
    window: Window = (1 / r, middle, middle) if call.name == "pixel_shuffle" else (r, 0, r - 1)
    return _windowed(call, [window, window])


def _pad(call: Call) -> Field:
    tensor = call.subject[0]
    pad = list(call.args.get("pad", call.args.get("padding", [])))
    before = [0] * tensor.ndim
    for i in range(len(pad) // 2):
        before[tensor.ndim - 1 - i] = pad[2 * i]
    return _shifted(call, call.out, {dim: (1.0, -b, -b) for dim, b in enumerate(before)})


def _slice(call: Call) -> Field:
    tensor = call.subject[0]
    dim = call.args["dim"] % tensor.ndim
    start, _, step = slice(call.args["start"], None, call.args["step"]).indices(tensor.shape[dim])
    return _shifted(call, call.out, {dim: (step, start, start)})


def _flip(call: Call) -> Field:
    tensor = call.subject[0]
    dims = [d % tensor.ndim for d in call.args["dims"]]
    return _shifted(call, call.out, {d: (-1.0, tensor.shape[d] - 1, tensor.shape[d] - 1) for d in dims})


def _split(call: Call) -> Field:
    tensor = call.subject[0]
    dim = call.args["dim"] % tensor.ndim
    parts = call.args.get("split_sizes", call.args.get("split_size"))
    start = parts * call.position if isinstance(parts, int) else sum(parts[: call.position])
    return _shifted(call, call.out, {dim: (1.0, start, start)})


def _select(call: Call) -> Field:
    tensor, field = call.subject
    dim = call.args["dim"] % tensor.ndim
    return Field((*field.dims[:dim], *field.dims[dim + 1 :]))


def _reduce(call: Call) -> Field:
    tensor = call.subject[0]
    given = call.args.get("dim")
    given = [given] if isinstance(given, int) else given
    gone = {d % tensor.ndim for d in given} if given else set(range(tensor.ndim))
    windows = {d: (float(tensor.shape[d]), 0.0, tensor.shape[d] - 1.0) for d in gone}
    kept = _shifted(call, tensor, windows)
    dims = [along(1, axis_of(dim)) if d in gone else dim for d, dim in enumerate(kept.dims)]
    return Field(tuple(dim for d, dim in enumerate(dims) if call.args.get("keepdim") or d not in gone))


def _cat(call: Call) -> Field:
    dim = call.args["dim"] % call.out.ndim
    parts = [(t, call.field(t)) for t in call.args["tensors"] if t.ndim == call.out.ndim]
    known = [f for _, f in parts if f is not None]
    dims = [unite([f.dims[d] for f in known], call.name) for d in range(call.out.ndim)]
    dims[dim] = along(call.out.shape[dim], lost_in([f.dims[dim] for f in known], call.name))
    if len(known) == 1:  # zeros before or after it: padding by hand
        start = sum(t.shape[dim] for t, _ in parts[: [f is not None for _, f in parts].index(True)])
        dims[dim] = moved(known[0].dims[dim], call.out.shape[dim], (1.0, -start, -start), call.name)
    return Field(tuple(dims))


def _view(call: Call) -> Field:
    field = call.subject[1]
    same = 0
    while same < min(call.out.ndim, len(field.dims)) and call.subject[0].shape[-1 - same] == call.out.shape[-1 - same]:
        same += 1
    cut, keep = len(field.dims) - same, call.out.ndim - same
    return Field((*regroup(field.dims[:cut], call.out.shape[:keep], call.name), *field.dims[cut:]))


def _permute(call: Call) -> Field:
    tensor, field = call.subject
    order = list(range(tensor.ndim))
    if call.name == "permute":
        order = [d % tensor.ndim for d in call.args["dims"]]
    elif tensor.ndim > 1:
        a, b = (call.args[x] % tensor.ndim for x in ("dim0", "dim1")) if call.name == "transpose" else (0, 1)
        order[a], order[b] = order[b], order[a]
    return Field(tuple(field.dims[d] for d in order))


def _unsqueeze(call: Call) -> Field:
    dims = list(call.subject[1].dims)
    dims.insert(call.args["dim"] % call.out.ndim, blank(1))
    return Field(tuple(dims))


def _squeeze(call: Call) -> Field:
    tensor, field = call.subject
    given = call.args.get("dim")
    dims = range(tensor.ndim) if given is None else [given] if isinstance(given, int) else given
    gone = {d % tensor.ndim for d in dims if tensor.shape[d] == 1}
    return Field(tuple(dim for d, dim in enumerate(field.dims) if d not in gone))


def _expand(call: Call) -> Field:
    return _pointwise(call)


def _matmul(call: Call) -> Field:
    left, right = (call.args[x] for x in _OPERANDS[call.name])
    if call.field(left) is not None and call.field(right) is not None:
        return call.unknown()
    tensor = left if call.field(left) is not None else right
    field = call.field(tensor)
    if field is None:
        return call.unknown()
    kept, summed = (-2, -1) if tensor is left else (-1, -2)
    dims = [blank(n) for n in call.out.shape]
    dims[kept] = field.dims[kept]
    dims[summed] = along(call.out.shape[summed], _mixed(field.dims[summed], call.name))
    if call.out.ndim > 2:
        dims[0] = field.dims[0]
    return Field(tuple(dims))


def _mixed(dim: Dim, operation: str) -> Lost | None:
    """Positions that constant weights sum over are all seen by each cell, as in attention."""
    lost = lost_in([dim], operation)
    return Lost(operation, True) if lost == Lost(operation) else lost


def _repeat(call: Call) -> Field:
    field, repeats = call.subject[1], call.args["repeats"]
    new = call.out.ndim - len(field.dims)
    dims = [blank(n) for n in call.out.shape[:new]]
    for dim, times, n in zip(field.dims, repeats[new:], call.out.shape[new:], strict=True):
        once = times == 1 or not origins(dim) or n == times
        dims.append(dim if times == 1 else along(n, None if once else lost_in([dim], call.name)))
    return Field(tuple(dims))


def _windowed(call: Call, windows: Sequence[Window]) -> Field:
    """The last dimensions are windowed; batch and channel follow no axis."""
    first = call.out.ndim - len(windows)
    if call.subject[0].ndim != call.out.ndim:
        return call.unknown()
    shifted = _shifted(call, call.out, {first + i: window for i, window in enumerate(windows)})
    return Field((*(blank(n) for n in call.out.shape[:first]), *shifted.dims[first:]))


def _shifted(call: Call, out: Tensor, windows: Mapping[int, Window]) -> Field:
    dims = list(call.subject[1].dims)
    for d, window in windows.items():
        if window != (1, 0, 0) or out.shape[d] != math.prod(n for n, _ in dims[d]):
            dims[d] = moved(dims[d], out.shape[d], window, call.name)
    return Field(tuple(dims))


def _each(value: Any, n: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * n if len(values) == 1 else values


def _tensors(values: Any) -> list[Tensor]:
    return [t for t in torch.utils._pytree.tree_leaves(list(values)) if isinstance(t, Tensor)]


_OPERANDS = {
    "mm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "bmm": ("self", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}
_MANY = frozenset(("split", "split_with_sizes", "unbind", "var_mean", "std_mean", "aminmax"))
_FAMILIES: dict[Rule, str] = {
    _carry: " ".join(NORMS) + " alias detach clone contiguous _to_copy lift_fresh native_dropout _softmax _log_softmax",
    _copy: "copy",
    _constant: "zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty",
    _convolution: "convolution",
    _pool: "avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices",
    _adaptive: "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d adaptive_avg_pool1d",
    _upsample: "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
    "_upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d "
    "upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa",
    _shuffle: "pixel_shuffle pixel_unshuffle",
    _pad: "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d",
    _slice: "slice",
    _flip: "flip",
    _split: "split split_with_sizes",
    _select: "select unbind",
    _reduce: "mean sum amax amin var std logsumexp max min var_mean std_mean aminmax argmax argmin prod any all "
    "linalg_vector_norm",
    _cat: "cat",
    _view: "view _unsafe_view reshape",
    _permute: "permute transpose t",
    _unsqueeze: "unsqueeze",
    _squeeze: "squeeze",
    _expand: "expand",
    _matmul: "mm addmm bmm baddbmm",
    _repeat: "repeat",
}
_RULES: Mapping[str, Rule] = {name: rule for rule, names in _FAMILIES.items() for name in names.split()}
