"""The one door between our volumes and MONAI's MetaTensor: same voxels, same float64 RAS+ affine."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from medxai.core.geometry import Geometry, Units
from medxai.core.volume import Volume
from medxai.errors import GeometryError
from medxai.shapes import Affine


def to_metatensor(volume: Volume, affine: Affine | None = None) -> Tensor:
    """The volume as a channel-first MetaTensor in RAS space; `affine` stands in for its own where given."""
    from monai.data import MetaTensor

    place = volume.geometry.affine if affine is None else affine
    result: Tensor = MetaTensor(volume.data.detach().clone(), meta=meta(place, volume, channel=0))
    return result


def from_metatensor(image: Tensor, units: Units = "mm", modality: str = "") -> Volume:
    """A channel-first MetaTensor as a volume: off the graph, on the CPU, bfloat16 as float32.

    Raises `GeometryError` for a plain tensor, and for a space that is neither RAS nor LPS.
    """
    affine, shape = getattr(image, "affine", None), tuple(image.shape[1:])
    if affine is None:
        raise GeometryError(
            "A plain tensor has no place in the patient.", expected="a MetaTensor", found=type(image).__name__
        )
    matrix = np.eye(4)
    size = len(affine) - 1
    matrix[:size, :size], matrix[:size, 3] = affine[:size, :size].cpu(), affine[:size, size].cpu()
    space = str(getattr(image, "meta", {}).get("space", "RAS")).rpartition(".")[2]
    if space not in {"RAS", "LPS"}:
        raise GeometryError("This MetaTensor lies in an unknown space.", expected="RAS or LPS", found=space)
    geometry = Geometry(matrix, shape, units) if space == "RAS" else Geometry.from_lps(matrix, shape, units)
    data: Tensor = image.as_tensor().detach().cpu()  # type: ignore[attr-defined]
    return Volume(data.float() if data.dtype == torch.bfloat16 else data, geometry, modality)


def meta(affine: Affine, volume: Volume, channel: float) -> dict[str, Any]:
    """MONAI's own keys for a volume: affine, space, shape, and which axis holds the channels (NaN: none)."""
    from monai.utils import MetaKeys, SpaceKeys

    return {
        MetaKeys.AFFINE: torch.tensor(np.asarray(affine, np.float64)),
        MetaKeys.ORIGINAL_AFFINE: torch.tensor(np.asarray(affine, np.float64)),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.SPATIAL_SHAPE: np.array(volume.geometry.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: channel,
    }
