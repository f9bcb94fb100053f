"""Named lists of metrics: what to ask of a map when nobody says."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from medxai.catalog import find, metrics
from medxai.errors import UsageError
from medxai.metrics.spec import MetricSpec

BASIC = (
    "pointing_game",
    "pointing_within_10mm",
    "peak_distance",
    "mass_in_mask",
    "mass_lift",
    "iou_at_mask_size",
    "auroc",
    "average_precision",
    "normalised_average_precision",
)
CHEXLOCALIZE = ("chexlocalize_hit", "chexlocalize_iou")
ARUN = ("average_precision",)
PRESETS: Mapping[str, tuple[str, ...] | None] = MappingProxyType(
    {"basic": BASIC, "full": None, "chexlocalize": CHEXLOCALIZE, "arun": ARUN}
)
"""What a map and a mask suffice for; `full` is all of it."""

ASKED: Mapping[str, tuple[str, ...]] = MappingProxyType({"arun": ("cascading_ssim", "cascading_spearman")})
"""What a preset asks of the network and the method too: of the criteria of Arun et al. 2021 the second, sensitivity to
the weights. Repeatability and reproducibility compare with the maps of other trainings and architectures."""


def chosen(names: Sequence[str] | None, preset: str = "basic") -> tuple[MetricSpec, ...]:
    """The rows of the named metrics or, without names, of the preset.

    `full` is every metric of a map or a mask, save those of a protocol that has a preset of its own.

    Raises UnknownNameError, and UsageError for a metric that needs more than a map and a mask.
    """
    table = metrics()
    wanted = find(PRESETS, preset) if names is None else tuple(names)
    if wanted is None:
        return tuple(row for row in table.values() if row.needs in {"map", "mask"} and row.name not in CHEXLOCALIZE)
    rows = tuple(find(table, name) for name in wanted)
    for row in rows:
        if row.needs not in {"map", "mask"}:
            raise UsageError(
                f"{row.name!r} is not scored from a map and a mask alone.", found=f"a metric that needs a {row.needs}"
            )
    return rows
