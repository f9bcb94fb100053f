"""Where the attribution of one case goes: the share of each structure of an atlas, or of segmented organs."""

import torch

from medxai.core.pairing import paired
from medxai.core.saliency import Saliency
from medxai.core.volume import Mask, Volume
from medxai.errors import GeometryError, MaskError
from medxai.io.options import DEFAULT, ReadOptions
from medxai.metrics.atlas import Structure, by_structure


def structures(
    saliency: Saliency, atlas: Volume, options: ReadOptions = DEFAULT, domain: Mask | None = None
) -> tuple[tuple[Structure, ...], tuple[str, ...]]:
    """One row per label of `atlas`, the map read at its voxels, and what there is to notice of the atlas's grid.

    With a `domain` within it alone. All shares of a degenerate map are undefined.

    Raises MaskError for labels that are no integers or of several channels, and where atlas and image do not belong
    together (of `options` count `strict_grid` and `other_grid`) or the model saw none of it, and GeometryError for a
    domain on another grid.
    """
    labels = atlas.data[0]
    if len(atlas.data) > 1 or not torch.equal(labels, labels.round()):
        raise MaskError("An atlas holds one integer per voxel.", found=f"{len(atlas.data)} channels of {labels.dtype}")
    if domain is not None and not domain.geometry.same(atlas.geometry):
        raise GeometryError(
            "Domain and atlas are on one grid.",
            expected=f"{atlas.geometry}",
            found=f"{domain.geometry}",
            remedy="Lay the atlas on the annotation's grid, or ask its structures without a domain.",
        )
    notices: tuple[str, ...] = ()
    if saliency.source is not None:
        strict, other = options.strict_grid, options.other_grid
        notices = paired(saliency.source, atlas.geometry, same_grid=strict, other_grid=other, what="atlas")
    values = saliency.on(atlas.geometry)
    if domain is not None:
        values = values.masked_fill(~domain.data, torch.nan)
    if bool(values.isnan().all()):
        raise MaskError(
            "The model sees no voxel of this atlas.",
            expected="an atlas of the image, and where there is a domain, one within it",
            found=f"{atlas.geometry}",
            remedy="Check that image and atlas are of the same patient and frame of reference.",
            code="M09",
        )
    known = values if saliency.status.ok else values * 0
    return by_structure(known, labels.long(), atlas.geometry), notices
