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

FAITHFULNESS = ("deletion", "insertion", "comprehensiveness", "sufficiency", "faithfulness_correlation")
SANITY = ("cascading_ssim", "cascading_spearman", "class_sensitivity", "max_sensitivity", "flip_equivariance")
RANDOMISATION = ("cascading_ssim", "cascading_spearman")


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


def asked(names: Sequence[str] | None, preset: str = "basic", method: bool = False) -> tuple[MetricSpec, ...]:
    """The rows that ask the network: the named ones or, without names, those of the preset.

    `full` is every metric that needs a probe and, with a `method`, every one that needs that; `arun` the sensitivity
    to the weights; any other preset the cheaper ones (some 200 images, as many for the noise).

    Raises UnknownNameError, and UsageError for a metric that does not ask the network.
    """
    table = metrics()
    _ = find(PRESETS, preset)
    if names is None and preset == "full":
        kinds = {"probe", "method"} if method else {"probe"}
        return tuple(row for row in table.values() if row.needs in kinds)
    cheap = (*FAITHFULNESS, *(SANITY if method else ()))
    wanted = (RANDOMISATION if preset == "arun" and method else cheap) if names is None else tuple(names)
    rows = tuple(find(table, name) for name in wanted)
    for row in rows:
        if row.needs not in {"probe", "method"}:
            raise UsageError(f"{row.name!r} does not ask the model.", remedy="Use medxai.evaluate.")
    return rows


def apart(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of metrics of a map and a mask, and of those that ask the network. Raises UnknownNameError."""
    table = metrics()
    told = tuple(name for name in names if find(table, name).needs in {"map", "mask"})
    return told, tuple(name for name in names if name not in told)
