"""Which layer to explain: `auto`, the names that exist, and what speaks against one of them."""

import difflib
from dataclasses import dataclass
from math import prod

from torch import nn

from medxai.core.layer import Layer
from medxai.errors import LayerError, LayerNotFoundError
from medxai.model.record import LayerRow
from medxai.model.trace import Trace, trace

_TOKEN_MODULES = (nn.LayerNorm, nn.RMSNorm, nn.MultiheadAttention, nn.TransformerEncoderLayer)


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
    nonlinearity; for a network that segments, the last layer on the coarsest grid. Raises LayerNotFoundError for an
    unknown name, and LayerError for a layer whose output is no map or that runs more than once.
    """
    if name == "auto":
        row = _auto(traced)
        return row.name, (*_notices(row), *_about_tokens(traced, row))
    row = find_row(traced, name)
    _check(traced, row)
    return row.name, _notices(row)


def look_up(network: nn.Module, layer: str | Layer, image_shape: tuple[int, ...]) -> Layer:
    """The layer itself, with how to read its output; what is already looked up is returned as it is.

    A network without tokens keeps its channels in front, so a named layer of it costs no trace and gets no footprint.
    Raises what `resolve_layer` raises.
    """
    if isinstance(layer, Layer):
        return layer
    if layer != "auto" and not any(isinstance(module, _TOKEN_MODULES) for module in network.modules()):
        return Layer(layer)
    return located(trace(network, image_shape), layer)


def located(traced: Trace, name: str) -> Layer:
    """The layer that `name` means, with its layout, its footprint and the notices about it."""
    found, notices = resolve_layer(traced, name)
    row = find_row(traced, found)
    return Layer(found, row.layout, row.footprint, notices)


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
        coarsest = min((prod(row.shape[1:]) for row in rows), default=0)
        rows = [row for row in rows if prod(row.shape[1:]) == coarsest]
        settled = [row for row in rows if not row.followed_by]
        choices = [row for row in settled if not row.linear], settled, rows
    else:
        choices = [row for row in rows if row.feeds_weights], rows, []
    return next((choice[-1] for choice in choices if choice), None)


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
        remedy = (
            "These are tokens, not a map: pick the patch embedding's convolution, or wrap the layer to reshape them."
        )
    raise LayerError(
        f"Layer {row.name!r} ({row.type}) cannot carry a map: {objection}.",
        expected="one output (batch, channels, *space) per pass",
        found=f"an output of shape {row.shape} without the batch" if row.shape else "",
        remedy=remedy,
    )


def _enclosing(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


def _about_tokens(traced: Trace, row: LayerRow) -> tuple[str, ...]:
    later = traced.layers[traced.layers.index(row) + 1 :]
    tokens = next((one for one in later if len(one.shape) == 2 and one.reaches_output), None)
    if tokens is None:
        return ()
    return (
        f"From layer {tokens.name!r} on this network emits tokens, which are no map; {row.name!r} is the last map "
        "before or beside them and says little about the decision.",
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
    return tuple(notices)
