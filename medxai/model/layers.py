"""Which layer to explain: `auto`, the names that exist, and what speaks against one of them."""

import difflib
from dataclasses import dataclass, replace
from itertools import takewhile
from math import prod

from torch import nn

from medxai.core.layer import Layer
from medxai.errors import FootprintError, LayerError, LayerNotFoundError
from medxai.model.record import LayerRow
from medxai.model.trace import Trace, trace

_TOKEN_MODULES = (nn.LayerNorm, nn.RMSNorm, nn.MultiheadAttention, nn.TransformerEncoderLayer)
_POSITIONLESS = (nn.Linear, *_TOKEN_MODULES)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of `medxai layers`: `jump` is the distance of neighbouring cells in voxels of the network's image."""

    name: str
    type: str
    shape: tuple[int, ...]
    jump: tuple[float, ...] | None
    usable: bool
    recommended: bool
    remark: str


def resolve_layer(traced: Trace, name: str) -> tuple[str, tuple[str, ...]]:
    """The layer that `name` means, and what the user should know about it.

    "auto" means, for a classifier, the last layer whose output is a map that learned weights still read, after its
    nonlinearity; where only prefix tokens are read after the last attention, the last layer before it that is more
    than a projection or norm, else the first of all; for a network that segments, the last layer on the coarsest
    grid that learned weights still read. Raises LayerNotFoundError for an unknown name, and LayerError for a layer
    whose output is no map or that runs more than once.
    """
    if name == "auto":
        row = _auto(traced)
        return row.name, (*_notices(row), *_about_lost(traced, row))
    row = find_row(traced, name)
    _check(traced, row)
    return row.name, _notices(row)


def look_up(network: nn.Module, layer: str | Layer, image_shape: tuple[int, ...]) -> Layer:
    """The layer itself, with how to read its output; what is already looked up is returned as it is, if it says more
    than a name.

    A named layer costs no trace, and gets no footprint, where channels are known to stand in front: nothing in it, nor
    registered before it, acts on the last axis, and no module of the network normalises or attends along it. Raises
    what `resolve_layer` raises.
    """
    if isinstance(layer, Layer):
        if not layer.name or layer != Layer(layer.name):
            return layer
        layer = layer.name
    if layer != "auto" and not any(isinstance(module, _TOKEN_MODULES) for module in network.modules()):
        modules = dict(network.named_modules())
        if not layer or layer not in modules:
            return Layer(layer)
        before = [modules[name] for name in takewhile(lambda name: name != layer, modules)]
        if not any(isinstance(module, _POSITIONLESS) for module in (*before, *modules[layer].modules())):
            return Layer(layer)
    return located(trace(network, image_shape), layer)


def located(traced: Trace, name: str) -> Layer:
    """The layer that `name` means, with its layout, its footprint and the notices about it."""
    found, notices = resolve_layer(traced, name)
    row = find_row(traced, found)
    return Layer(found, row.layout, row.footprint, notices)


def stages(traced: Trace) -> tuple[str, ...]:
    """For methods that join layers: the last layer of each stride above the image's own, up to the one "auto" means.

    After its nonlinearity where it has one, and never a mere padding. Raises LayerError where "auto" means none.
    """
    best = _auto(traced)
    before = [row for row in traced.layers[: traced.layers.index(best)] if not (_objection(row) or row.passing)]
    found: dict[tuple[float, ...], list[LayerRow]] = {}
    for row in before:
        if row.footprint and max(row.footprint.jump) > 1:
            found.setdefault(row.footprint.jump, []).append(row)
    if best.footprint:
        found.pop(best.footprint.jump, None)
    return (*(_settled(_smallest(rows)).name for rows in found.values()), best.name)


def put(traced: Trace, layer: Layer) -> Layer:
    """The layer with its footprint: its own, else the traced one; of tokens that could not be followed, that of the
    last map before them with the same grid. A layer that is a mere name gets its layout too. Raises LayerNotFoundError,
    and FootprintError where there is none.
    """
    if layer.footprint or not layer.name:
        return layer
    row = find_row(traced, layer.name)
    if row.footprint:
        layout = row.layout if layer == Layer(layer.name) else layer.layout
        return replace(layer, layout=layout, footprint=row.footprint)
    before = traced.layers[: traced.layers.index(row)]
    alike = [one for one in before if one.footprint and one.footprint.shape == layer.layout.grid]
    if not alike:
        raise FootprintError(
            f"It is unknown where in the image the cells of layer {layer.name!r} look.",
            expected=f"a layer before it with the grid {layer.layout.grid}" if layer.layout.grid else "a map",
            found=row.why,
            remedy="Give the footprint too: Layer(name, layout, Footprint(start, jump, shape)).",
        )
    notice = f"The tokens of layer {layer.name!r} are placed where the cells of {alike[-1].name!r} look, as was given."
    return replace(layer, footprint=alike[-1].footprint, notices=(*layer.notices, notice))


def layer_table(traced: Trace) -> tuple[TableRow, ...]:
    """Every layer in order of completion; the one that "auto" means is recommended."""
    usable = {row.name for row in _usable(traced)}
    best = _best(traced)
    return tuple(
        TableRow(
            name=row.name,
            type=row.type,
            shape=row.shape,
            jump=row.footprint.jump if row.footprint else None,
            usable=row.name in usable,
            recommended=row is best,
            remark=_objection(row) or " ".join(_notices(row)),
        )
        for row in traced.layers
    )


def find_row(traced: Trace, name: str) -> LayerRow:
    """The layer of exactly that name; an unknown one is answered with the five nearest."""
    rows = {row.name: row for row in traced.layers}
    if name in rows:
        return rows[name]
    near = [f"{n} {rows[n].shape}" for n in difflib.get_close_matches(name, rows, n=5, cutoff=0.0)]
    raise LayerNotFoundError(
        f"No layer named {name!r} ran.",
        expected=f"one of the {len(rows)} layers that ran",
        remedy=f"Nearest: {near}." if near else "",
        code="X14",
    )


def _auto(traced: Trace) -> LayerRow:
    best = _best(traced)
    if best is None:
        reason, remedy = _reason_and_remedy(traced)
        raise LayerError(
            "No layer of this network emits a map whose place in the image is known.",
            expected="a layer that runs once and emits (batch, channels, *space) of more than one cell",
            found=reason,
            remedy=remedy,
        )
    return best


def _reason_and_remedy(traced: Trace) -> tuple[str, str]:
    """Why no layer at all can carry a map, and what would help."""
    rows = traced.layers
    if not rows:
        return "a network without layers", "Give a network that is built of modules."
    repeated = [row for row in rows if row.calls > 1 and row.spatial]
    single = [row for row in rows if row.footprint and not row.spatial]
    lost = [row for row in rows if not row.footprint and len(row.shape) == len(traced.image_shape)]
    for found, reason, remedy in (
        (repeated, "every layer with a map runs more than once", "Give each use its own module, or wrap one use."),
        (lost, "", "Explain a network whose maps can be followed from the image."),
        (single, "every map has one cell only", "Give a larger image, or a network that reduces it less."),
    ):
        if found:
            row = found[-1]
            return f"{reason or row.why}, as {row.name!r} {row.shape}", remedy
    return f"no map at all; the last layer {rows[-1].name!r} emits {rows[-1].shape}", "Explain a convolutional network."


def _best(traced: Trace) -> LayerRow | None:
    rows = [row for row in _usable(traced) if not row.passing]
    rows = [row for row in rows if row.reaches_output] or rows
    if traced.segments:
        rows = [row for row in rows if row.feeds_weights] or rows  # not the output itself
        return _settled(_smallest(rows)) if rows else None
    learned = [row for row in rows if row.feeds_weights]
    final = [row for row in learned if not row.attended]
    choices = final, [row for row in learned if not row.linear], learned[:1] or rows
    return next((choice[-1] for choice in choices if choice), None)


def _settled(rows: list[LayerRow]) -> LayerRow:
    """The last after its nonlinearity that is more than a projection or norm; else the last after it, else the last."""
    settled = [row for row in rows if not row.followed_by]
    return ([row for row in settled if not row.linear] or settled or rows)[-1]


def _smallest(rows: list[LayerRow]) -> list[LayerRow]:
    """Those with the fewest cells."""
    cells = [prod(row.footprint.shape) if row.footprint else 0 for row in rows]
    return [row for row, count in zip(rows, cells, strict=True) if count == min(cells)]


def _usable(traced: Trace) -> list[LayerRow]:
    return [row for row in traced.layers if not _objection(row)]


def _objection(row: LayerRow) -> str:
    if row.calls > 1:
        return f"runs {row.calls} times"
    if row.spatial:
        return ""
    return row.why or "its output has one cell only"


def _check(traced: Trace, row: LayerRow) -> None:
    objection = _objection(row)
    if not objection:
        return
    remedy = "Pick a layer that `medxai layers` lists."
    if row.calls > 1:
        usable = {other.name for other in _usable(traced)}
        block = next((b for b in _enclosing(row.name) if b in usable), "")
        remedy = f"Use the block that contains it: {block!r}." if block else remedy
    elif len(row.shape) == 2:
        remedy = "If you know how these tokens fill a grid, say so: Layer(name, Layout('tokens', prefix, grid))."
    raise LayerError(
        f"Layer {row.name!r} ({row.type}) cannot carry a map: {objection}.",
        expected="one output per pass that is a map: (batch, channels, *space), channels last, or tokens of a grid",
        found=f"an output of shape {row.shape} without the batch" if row.shape else "",
        remedy=remedy,
        code="X15",
    )


def _enclosing(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


def _about_lost(traced: Trace, row: LayerRow) -> tuple[str, ...]:
    """A notice where cells went on after the chosen layer, to where they cannot be placed."""
    maps = [one for one in traced.layers if len(one.shape) > 1 and (one.reaches_output or one.layout.prefix)]
    if not maps or maps[-1].footprint or maps[-1] is row:
        return ()
    return (
        f"After layer {row.name!r} cells can no longer be placed: at {maps[-1].name!r} {maps[-1].why}. What the "
        "network does there does not show in the map.",
    )


def _notices(row: LayerRow) -> tuple[str, ...]:
    notices = []
    if row.followed_by and not row.activated:
        notices.append(
            f"Layer {row.name!r} ({row.type}) is read before its nonlinearity ({row.followed_by}); methods that are "
            "equal after it differ here. Prefer the activation or the block that ends with it."
        )
    if row.doubt:
        notices.append(
            f"On the way to layer {row.name!r} attention ({row.doubt}) mixes distant cells; each cell is placed where "
            "the path beside the attention comes from, although it also sees what it attends to."
        )
    if row.layout.prefix and not row.reaches_output:
        notices.append(
            f"After layer {row.name!r} only prefix tokens are read, so the gradients of the image's tokens are exactly "
            "zero there. Pick a layer before the last attention."
        )
    return tuple(notices)
