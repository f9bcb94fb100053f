"""Which MONAI transforms a recipe may hold: those whose movement of voxels MONAI follows in the affine, truly.

Each name of `SPATIAL` is held to it by a test that sends an image of its own coordinates through it.
"""

from difflib import get_close_matches
from typing import Any

from medxai.errors import RecipeError

SPATIAL = frozenset(
    {
        "Affine",
        "BorderPad",
        "CenterScaleCrop",
        "CenterSpatialCrop",
        "CropForeground",
        "DivisiblePad",
        "Flip",
        "Orientation",
        "Resize",
        "ResizeWithPadOrCrop",
        "Rotate",
        "Rotate90",
        "Spacing",
        "SpatialCrop",
        "SpatialPad",
        "Zoom",
    }
)
IN_PLACE = frozenset(
    {
        "AdjustContrast",
        "CastToType",
        "ClipIntensityPercentiles",
        "EnsureChannelFirst",
        "EnsureType",
        "GaussianSharpen",
        "GaussianSmooth",
        "Identity",
        "MedianSmooth",
        "NormalizeIntensity",
        "RepeatChannel",
        "ScaleIntensity",
        "ScaleIntensityFixedMean",
        "ScaleIntensityRange",
        "ScaleIntensityRangePercentiles",
        "ShiftIntensity",
        "StdShiftIntensity",
        "ThresholdIntensity",
        "ToTensor",
    }
)
ALLOWED = SPATIAL | IN_PLACE
READING = frozenset({"LoadImage"})

_BENDING = ("Elastic", "Distortion", "Warp", "GridPatch", "GridSplit", "DeformGrid", "Undistort")
_UNTRACKED = frozenset({"Transpose"})
_MISPLACING = {
    "nearest": "it puts voxels up to a voxel away from where its own affine says; use nearest-exact or a linear mode",
    "area": "it puts voxels up to a voxel away from where its own affine says; use bilinear or trilinear",
}


def check_name(name: str) -> None:
    """Raise `RecipeError` unless a recipe may hold the transform of this (array) name, saying why not."""
    if name in ALLOWED:
        return
    if any(part in name for part in _BENDING):
        reason = f"{name} is not affine in space, so no affine could carry a map back to the patient."
    elif name.startswith("Rand") or name in {"OneOf", "SomeOf", "RandomOrder"}:
        reason = f"{name} is random: a recipe does the same to every image."
    elif name in _UNTRACKED:
        reason = f"{name} moves voxels, and MONAI does not follow it in the affine."
    elif name == "Lambda":
        reason = "Lambda runs unknown code, which may move voxels."
    else:
        reason = f"{name} is not among the transforms known to keep the affine true."
    near = get_close_matches(name, sorted(ALLOWED), n=3)
    raise RecipeError(
        reason,
        remedy=(f"Did you mean {' or '.join(near)}? " if near else "")
        + "In Python, Recipe.from_compose(..., trusted=(name,)) takes a class on your word.",
        expected="" if near else f"one of {', '.join(sorted(ALLOWED))}",
    )


def check_settings(name: str, transform: Any, mode: object) -> None:
    """Raise `RecipeError` for the settings with which MONAI's affine and voxels part; `transform` is the array one."""
    problem = ""
    if name in {"Resize", "Zoom"} and str(mode) in _MISPLACING:
        problem = f"{name} with mode={str(mode)!r}: {_MISPLACING[str(mode)]}."
    elif name == "Affine" and transform.affine_grid.align_corners:
        problem = "Affine with align_corners=True: MONAI's affine is off wherever the size changes."
    elif name == "Spacing" and transform.recompute_affine:
        problem = "Spacing with recompute_affine=True: MONAI then loses the origin."
    elif name == "EnsureChannelFirst" and transform.input_channel_dim is not None:
        problem = (
            f"EnsureChannelFirst with channel_dim={transform.input_channel_dim!r}: it permutes axes and keeps the "
            "affine. Images reach a recipe channel first; use it without channel_dim."
        )
    if problem:
        raise RecipeError(problem, remedy="Choose another setting." if "use " not in problem else "")
