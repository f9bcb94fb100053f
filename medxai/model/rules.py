"""How each tensor operation moves the field of view of the cells: one rule per family of ATen operations."""

from collections.abc import Mapping

from medxai.model.field import (
    Dim,
    Field,
    Lost,
    along,
    blank,
    lost_in,
    moved,
    origins,
    prefix_of,
    prefixed,
    regroup,
    unite,
)
from medxai.model.operations import ACTIVATIONS, NORMS, OPERANDS, Call, Rule, tensors
from medxai.model.window_rules import WINDOW_RULES


def propagate(call: Call) -> Field:
    """The field of the output; lost, by the name of the operation, where no rule holds."""
    rule = _pointwise if call.pointwise or call.name in ACTIVATIONS else _RULES.get(call.name)
    if rule is None or (call.position and call.name not in _MANY):
        return call.unknown()
    if rule not in _WHOLE and any(field.cut for field in call.fields.values()):
        return call.unknown()
    return rule(call)


def _carry(call: Call) -> Field:
    dims = call.subject[1].dims
    return Field(dims) if len(dims) == call.out.ndim else call.unknown()


def _pointwise(call: Call) -> Field:
    dims: list[Dim] = []
    parts = [(t, f) for t in tensors(call.args.values()) if (f := call.field(t)) is not None]
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


def _select(call: Call) -> Field:
    tensor, field = call.subject
    dim = call.args["dim"] % tensor.ndim
    return Field((*field.dims[:dim], *field.dims[dim + 1 :]))


def _cat(call: Call) -> Field:
    dim = call.args["dim"] % call.out.ndim
    parts = [(t, call.field(t)) for t in call.args["tensors"] if t.ndim == call.out.ndim]
    known = [f for _, f in parts if f is not None]
    dims = [unite([f.dims[d] for f in known], call.name) for d in range(call.out.ndim)]
    dims[dim] = along(call.out.shape[dim], lost_in([f.dims[dim] for f in known], call.name))
    told = [f is not None and bool(origins(f.dims[dim])) for _, f in parts]
    if sum(told) == 1 and told[-1] and len(parts) > 1 and len(known[-1].dims) == 3:  # class tokens before the others
        dims[dim] = prefixed(sum(t.shape[dim] for t, _ in parts[:-1]), known[-1].dims[dim], call.name)
        if prefix_of(dims[dim]):
            return Field(tuple(dims))
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
    left, right = (call.args[x] for x in OPERANDS[call.name])
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


_MANY = frozenset(("split", "split_with_sizes", "unbind", "var_mean", "std_mean", "aminmax"))
_FAMILIES: dict[Rule, str] = {
    **WINDOW_RULES,
    _carry: " ".join(NORMS) + " alias detach clone contiguous _to_copy lift_fresh native_dropout _softmax _log_softmax",
    _copy: "copy",
    _constant: "zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty",
    _select: "select unbind",
    _cat: "cat",
    _view: "view _unsafe_view reshape",
    _permute: "permute transpose t",
    _unsqueeze: "unsqueeze",
    _squeeze: "squeeze",
    _expand: "expand",
    _matmul: "mm addmm bmm baddbmm",
    _repeat: "repeat",
}
_WHOLE = (_pointwise, _carry, _copy, _constant, _view, _permute, _unsqueeze, _squeeze, _expand, _matmul)
_RULES: Mapping[str, Rule] = {name: rule for rule, names in _FAMILIES.items() for name in names.split()}
