"""What every metric on a map agrees on: NaN voxels are outside the model's field."""

from medxai.shapes import Map, MaskArray


def seen(saliency: Map) -> MaskArray:
    """The voxels that the model looked at."""
    return ~saliency.isnan()
