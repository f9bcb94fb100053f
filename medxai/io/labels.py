"""Which voxels of a label map are the region: integers only, one label; sorted only where a message lists values."""

from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from medxai.errors import MaskError
from medxai.io.codes import notice
from medxai.shapes import Map, MaskArray

_LISTED = 20


def region_of(path: str | Path, values: Shaped[Tensor, "*s"], label: int | None) -> tuple[MaskArray, tuple[str, ...]]:
    """The voxels that are `label`, or the only value other than 0, and what there is to notice. Raises `MaskError`."""
    if label == 0:
        raise MaskError(f"{path}: label 0 is the background.", remedy="Name the value of the region.", code="M05")
    _refuse_fractions(path, values)
    if label is None:
        region = values != 0
        value = _only_value(path, values[region])
        return region, _about(value)
    region = values == label if _holds(values, label) else torch.zeros_like(values).bool()
    if bool(region.any()):
        return region, ()
    present = _listed([int(value) for value in torch.unique(values).tolist()])
    return region, (notice("M03", f"no voxel has label {label}, of {present}: mask is empty"),)


def shares_of(path: str | Path, values: Shaped[Tensor, "*s"], label: int | None) -> Map:
    """The values as shares. Raises `MaskError` where a label is wanted of them, or one is not in [0, 1]."""
    if label is not None:
        raise MaskError(f"{path}: shares have no labels.", found=f"label {label}", code="M07", remedy="Leave it out.")
    shares = values.to(torch.float32)
    beyond = ~((shares >= 0) & (shares <= 1))
    if bool(beyond.any()):
        raise MaskError(
            f"{path}: a share is between 0 and 1.",
            found=_listed(torch.unique(shares[beyond]).tolist()),
            remedy="Divide the values by the number of readers, or by the largest share.",
            code="M07",
        )
    return shares


def _about(value: int) -> tuple[str, ...]:
    said = {0: notice("M03", "mask is empty"), 1: ""}.get(value, notice("M08", f"value {value} read as the region"))
    return (said,) if said else ()


def _refuse_fractions(path: str | Path, values: Tensor) -> None:
    if not values.is_floating_point():
        return
    finite = bool(values.isfinite().all())
    if finite and torch.equal(values, values.round()):
        return
    raise MaskError(
        f"{path}: the values of a mask are integers.",
        found=_listed(torch.unique(values[values != values.round()]).tolist() if finite else ["NaN or infinity"]),
        remedy="Take them as shares with soft=True (--soft), or threshold them first.",
        code="M06",
    )


def _only_value(path: str | Path, values: Tensor) -> int:
    if not len(values):
        return 0
    if bool((values == values[0]).all()) and int(values[0]) > 0:
        return int(values[0])
    found = [int(value) for value in torch.unique(values).tolist()]
    raise MaskError(
        f"{path}: the mask holds several labels." if len(found) > 1 else f"{path}: the region has a negative value.",
        expected="one positive value beside 0",
        found=_listed(found),
        remedy="Choose one with label=N (--label N).",
        code="M05" if len(found) > 1 else "M06",
    )


def _holds(values: Tensor, label: int) -> bool:
    """Whether the type of these values can be `label`: PyTorch would compare 300 as 44 with bytes."""
    return abs(label) < 2**63 and bool(torch.tensor(label).to(values.dtype).item() == label)


def _listed(values: list[int] | list[float] | list[str]) -> str:
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return ", ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in values[:_LISTED]) + more
