"""Operations that read their input through windows: convolutions, pools, resampling, padding, slices, reductions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from medxai.model.field import Field, along, axis_of, blank, lost_in, moved, picked
from medxai.model.operations import Call, Rule

Number = int | float
Window = tuple[Number, Number, Number]


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


def _reduce(call: Call) -> Field:
    tensor = call.subject[0]
    given = call.args.get("dim")
    given = [given] if isinstance(given, int) else given
    gone = {d % tensor.ndim for d in given} if given else set(range(tensor.ndim))
    windows = {d: (float(tensor.shape[d]), 0.0, tensor.shape[d] - 1.0) for d in gone}
    kept = _shifted(call, tensor, windows)
    dims = [along(1, axis_of(dim)) if d in gone else dim for d, dim in enumerate(kept.dims)]
    return Field(tuple(dim for d, dim in enumerate(dims) if call.args.get("keepdim") or d not in gone))


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
        part = picked(dims[d], int(window[1]), out.shape[d]) if window[0] == 1 and window[1] == window[2] else None
        if part is not None:
            dims[d] = part
        elif window != (1, 0, 0) or out.shape[d] != math.prod(n for n, _ in dims[d]):
            dims[d] = moved(dims[d], out.shape[d], window, call.name)
    return Field(tuple(dims))


def _each(value: Any, n: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * n if len(values) == 1 else values


WINDOW_RULES: dict[Rule, str] = {
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
    _reduce: "mean sum amax amin var std logsumexp max min var_mean std_mean aminmax argmax argmin prod any all "
    "linalg_vector_norm",
}
