"""Maps of volumes that do not fit the network or the memory at once: one map from many windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from medxai.attribution.cam import LayerMap
from medxai.attribution.evidence import Evidence
from medxai.attribution.joined import Joined
from medxai.attribution.passes import plain
from medxai.attribution.status import saturation, vacancy
from medxai.attribution.tiles import Axis, Blend, Grid, Mean, step_of
from medxai.core.layer import Footprint, Layer
from medxai.core.protocols import Attribution
from medxai.core.target import Target, settled
from medxai.errors import LayerError, ModelError, UsageError
from medxai.model.capture import capture
from medxai.model.guard import untouched
from medxai.model.layers import find_row, located, put
from medxai.model.trace import Trace, trace
from medxai.shapes import Features, Images, Scores


@dataclass(frozen=True)
class Tiled:
    """The map of a score that sliding windows make together, from windows of one network input at a time.

    The score is that of the blended output: of a segmenter the voxel logits averaged by `blend` weights (constant, or a
    Gaussian of an eighth of the window), of a classifier the mean of the windows' logits. A first pass without graph
    blends the output and takes dS/d(output) once; a second runs each window again and carries its share of that
    gradient to the layer. There the activations are averaged by the same weights and the gradients added, and `method`
    makes one map of the whole; no window is normalised by itself. Where no kept output of a window sees beyond it
    (`margin` at least the receptive radius), this is the map that the whole image would give. Where the last window
    would begin between two cells, the image is continued by its border, less than a cell is wide, and a notice says so.

    `window` and `margin` (inside every edge of a window that is no edge of the image) count voxels of the prepared
    image, one number or one per axis; `overlap` is a share of the window. `memory` bounds the bytes of the whole
    layer's activations and gradients, which are kept; beside them one window's graph is alive.
    """

    method: LayerMap
    window: int | tuple[int, ...]
    overlap: float = 0.25
    blend: Blend = "constant"
    margin: int | tuple[int, ...] = 0
    memory: int = 4 * 2**30

    def __post_init__(self) -> None:
        if not isinstance(self.method, LayerMap) or type(self.method).read is not LayerMap.read:
            raise UsageError(
                "Only a method that reads one layer and its gradient can be tiled.",
                expected="such as GradCAM()",
                found=f"{self.method!r}",
            )
        if not 0 <= self.overlap < 1:
            raise UsageError("The overlap is a share.", expected="0 or more, below 1", found=f"{self.overlap}")

    def seen(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what the network receives: one window, no larger than the image."""
        sizes = image_shape[2:]
        window = _per_axis(self.window, len(sizes), "window")
        return (*image_shape[:2], *(min(w, n) for w, n in zip(window, sizes, strict=True)))

    def __call__(self, model: nn.Module, images: Images, target: Target) -> Attribution:
        """The attribution of one target."""
        return self.attribute(model, images, (target,))[0]

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        """One attribution per target, from two passes over the windows."""
        images = plain(images)
        traced = trace(model, self.seen(tuple(images.shape)))
        layer = self.method.layer
        layer = put(traced, layer) if isinstance(layer, Layer) else located(traced, layer)
        sizes = tuple(images.shape[2:])
        images, added = _continued(images, traced, layer)
        tiles = self._tiles(traced, layer, tuple(images.shape))
        _check_memory(traced, layer, tiles, len(images) * (1 + len(targets)), self.memory)
        with untouched(model, images.device) as network:
            whole = tiles.blended(network, images).requires_grad_()
            goals = [settled(target, tiles.output.within(whole.detach(), sizes)) for target in targets]
            with torch.enable_grad():
                output = tiles.output.within(whole, sizes)
                scores = [goal(output) for goal in goals]
            slopes = [_slope(score, whole) for score in scores]
            activation, gradients = tiles.evidence(network, images, layer, slopes)
        remarks = (*added, *saturation(output, scores), *vacancy(goals))
        placed = Layer(layer.name, layer.layout, tiles.cells.footprint, layer.notices)
        found = [Joined(activation, score.detach(), slope) for score, slope in zip(scores, gradients, strict=True)]
        return tuple(self.method.explain(Evidence(one, one.scores), placed, remarks) for one in found)

    def _tiles(self, traced: Trace, layer: Layer, image_shape: tuple[int, ...]) -> "Tiles":
        sizes = image_shape[2:]
        cells = layer.footprint or Footprint.of_image(traced.image_shape[1:])
        margins = _per_axis(self.margin, len(sizes), "margin")
        jumps = [row.footprint.jump for row in traced.layers if row.footprint and row.reaches_output]
        axes = []
        for axis, (size, length) in enumerate(zip(sizes, traced.image_shape[1:], strict=True)):
            own = cells.jump[axis]
            if own <= 0:
                raise LayerError(f"Layer {layer.name!r} runs against the image, so windows cannot be joined there.")
            coarsest = max([own, *(jump[axis] for jump in jumps)])
            margin = margins[axis] if length < size else 0
            step = step_of(length, self.overlap, margin, (max(own, 1.0), coarsest)) if length < size else length
            axes.append(Axis.covering(size, length, step, margin, self.blend))
        voxels = Grid(tuple(axes), Footprint.of_image(traced.image_shape[1:]))
        count = prod(len(axis.starts) for axis in axes)
        if not traced.output and len(traced.output_shape) > 1:
            raise ModelError(
                "It is unknown where in the image the cells of the output look, so windows cannot be joined there.",
                expected="scores (batch, classes), or a map whose path from the image can be followed",
                found=f"an output of shape {traced.output_shape} without the batch",
            )
        return Tiles(
            voxels, Grid(voxels.axes, cells), Grid(voxels.axes, traced.output) if traced.output else Mean(count)
        )


@dataclass(frozen=True, eq=False, slots=True)
class Tiles:
    """The windows, as they lie in the image, in the layer and in the output."""

    voxels: Grid
    cells: Grid
    output: Grid | Mean

    def blended(self, network: nn.Module, images: Images) -> Tensor:
        """The output of the whole image, without graph."""
        whole: list[Tensor] = []
        for window, part in zip(self.voxels.parts(), self.output.parts(), strict=True):
            output = _scores(network(images[window.place]))
            whole = whole or [output.new_zeros((*output.shape[:2], *self.output.footprint.shape))]
            whole[0][part.place] += part.weighed(output)
        return whole[0]

    def evidence(
        self, network: nn.Module, images: Images, layer: Layer, slopes: Sequence[Tensor]
    ) -> tuple[Features, list[Features]]:
        """The activation of the whole layer and the gradient of every score, one window's graph at a time."""
        whole: list[Tensor] = []
        for window, cells, part in zip(self.voxels.parts(), self.cells.parts(), self.output.parts(), strict=True):
            with capture(network, layer) as captured:
                output = _scores(network(images[window.place]))
                A = captured.activation.detach()
                whole = whole or [A.new_zeros((*A.shape[:2], *self.cells.footprint.shape)) for _ in (0, *slopes)]
                whole[0][cells.place] += cells.weighed(A)
                for total, slope in zip(whole[1:], slopes, strict=True):
                    total[cells.place] += captured.gradient(
                        (output * part.weighed(slope[part.place])).flatten(1).sum(1)
                    )
        return whole[0], whole[1:]


def _continued(images: Images, traced: Trace, layer: Layer) -> tuple[Tensor, tuple[str, ...]]:
    """The images, their borders repeated until the last window begins on a cell, and what to tell."""
    sizes, lengths = tuple(images.shape[2:]), traced.image_shape[1:]
    grids = [one.jump for one in (layer.footprint, traced.output) if one]
    steps = [max(1, *(jump[axis] for jump in grids)) for axis in range(len(sizes))]
    spare = [round((length - size) % step) for size, length, step in zip(sizes, lengths, steps, strict=True)]
    if not any(spare):
        return images, ()
    ends = [end for added in reversed(spare) for end in (0, added)]
    told = f"The image was continued by {spare} voxels like its border, so that the last windows begin on a cell."
    return nn.functional.pad(images, ends, mode="replicate"), (told,)


def _scores(output: object) -> Tensor:
    if not isinstance(output, Tensor):
        raise ModelError(
            "Only one tensor can be joined from windows.",
            expected="an output (batch, classes) or (batch, classes, *space)",
            found=f"a {type(output).__name__}",
            remedy="Pick the part of the output with `output`.",
        )
    return output


def _slope(score: Scores, output: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(score, output, torch.ones_like(score), retain_graph=True)
    return slope


def _per_axis(value: int | tuple[int, ...], axes: int, name: str) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else value
    if len(values) != axes or min(values) < (name == "window"):
        raise UsageError(f"This {name} does not fit the image.", expected=f"{axes} numbers of voxels", found=f"{value}")
    return values


def _check_memory(traced: Trace, layer: Layer, tiles: Tiles, copies: int, memory: int) -> None:
    row = find_row(traced, layer.name)
    channels = row.shape[0] if layer.layout.order == "channels first" else row.shape[-1]
    needed = 4 * copies * channels * prod(tiles.cells.footprint.shape)
    if needed > memory:
        raise UsageError(
            f"The whole layer {layer.name!r} does not fit into the memory that is allowed.",
            expected=f"{memory / 2**30:.1f} GiB",
            found=f"{needed / 2**30:.1f} GiB: {channels} channels of {tiles.cells.footprint.shape} cells",
            remedy="Explain a deeper layer or fewer targets at once, or raise `memory`.",
        )
