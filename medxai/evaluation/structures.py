"""Where the attribution of one case goes: the share of each structure of an atlas, or of segmented organs."""

import torch

from medxai.core.pairing import paired
from medxai.core.saliency import Saliency
from medxai.core.volume import Volume
from medxai.errors import MaskError
from medxai.io.options import DEFAULT, ReadOptions
from medxai.metrics.atlas import Structure, by_structure


def structures(saliency: Saliency, atlas: Volume, options: ReadOptions = DEFAULT) -> tuple[Structure, ...]:
    """One row per label of `atlas`, the map read at its voxels; all shares of a degenerate map are undefined.

    Raises MaskError for labels that are no integers or of several channels, and where atlas and image do not belong
    together (of `options` count `strict_grid` and `other_grid`).
    """
    labels = atlas.data[0]
    if len(atlas.data) > 1 or not torch.equal(labels, labels.round()):
        raise MaskError("An atlas holds one integer per voxel.", found=f"{len(atlas.data)} channels of {labels.dtype}")
    if saliency.source is not None:
        paired(saliency.source, atlas.geometry, same_grid=options.strict_grid, other_grid=options.other_grid)
    values = saliency.on(atlas.geometry)
    known = values if saliency.status.ok else values * 0
    return by_structure(known, labels.long(), atlas.geometry)
