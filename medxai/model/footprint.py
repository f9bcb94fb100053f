"""Where in the image the cells of a layer look: the centres of their receptive fields, by arithmetic.

Through a window of kernel k, stride s, padding p and dilation d a cell's field moves by

    jump' = jump * s,    lo' = lo - p * jump,    hi' = hi + (d * (k - 1) - p) * jump,

and cell i is centred at (lo + hi) / 2 + jump * i. Where paths meet (concatenation, addition) the fields unite; a
factor with one cell along an axis, as the gate of a squeeze-and-excitation block, has no say. An operand whose cells
cannot be followed makes the result unknown; only what attention mixed leaves the place to the path beside it, and the
layer carries a doubt that becomes a notice.
Source: Araujo et al. 2019, Computing receptive fields of convolutional neural networks.
"""

from dataclasses import replace

from torch import nn

from medxai.core.layer import Footprint, Layer
from medxai.errors import FootprintError
from medxai.model.layers import find_row, put
from medxai.model.trace import Trace, trace

__all__ = ["Footprint", "footprint", "sited"]


def footprint(trace: Trace, layer: str) -> Footprint:
    """Cell i of `layer` is centred at voxel start + jump * i of the image that the network receives.

    Raises LayerNotFoundError for an unknown name and FootprintError where the path from the image cannot be followed.
    """
    row = find_row(trace, layer)
    if row.footprint is None:
        raise FootprintError(
            f"It is unknown where in the image the cells of layer {layer!r} look.",
            expected="a path of convolutions, pools and elementwise operations from the image to the layer",
            found=row.why,
            remedy="Pick a layer before that, or one that `medxai layers` lists.",
        )
    return row.footprint


def sited(network: nn.Module, layers: tuple[Layer, ...], image_shape: tuple[int, ...]) -> tuple[Layer, ...]:
    """The layers with their footprints; the network is traced, once, only if one of them has none yet.

    Raises what `put` raises.
    """
    if all(layer.footprint for layer in layers):
        return layers
    traced, whole = trace(network, image_shape), Footprint.of_image(image_shape[2:])
    return tuple(put(traced, layer) if layer.name else replace(layer, footprint=whole) for layer in layers)
