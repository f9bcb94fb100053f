"""Saliency for medical image models, in the scanner's own coordinates.

>>> import medxai                                               # doctest: +SKIP
>>> case = medxai.load_case("ct.nii.gz")                        # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medxai.attribution.gradient_cams import GradCAM
    from medxai.core.geometry import Geometry
    from medxai.core.saliency import Provenance, Saliency, Status
    from medxai.core.target import ClassScore, ContrastScore, GroupScore, MarginScore, RegionScore, SignedScore
    from medxai.core.volume import Case, Mask, Volume
    from medxai.errors import MedxaiError
    from medxai.evaluation import Evaluation, evaluate
    from medxai.evaluation.asking import Asking, evaluate_model
    from medxai.explanation import explain
    from medxai.io.read import load_case, read_mask, read_volume
    from medxai.io.readers import MedxaiReader
    from medxai.io.recipe import Recipe
    from medxai.model.load import load_model
    from medxai.overlay import load_overlay, save_overlay

_HOME = {
    "Asking": "evaluation.asking",
    "Case": "core.volume",
    "ClassScore": "core.target",
    "ContrastScore": "core.target",
    "Evaluation": "evaluation",
    "Geometry": "core.geometry",
    "GradCAM": "attribution.gradient_cams",
    "GroupScore": "core.target",
    "MarginScore": "core.target",
    "Mask": "core.volume",
    "MedxaiError": "errors",
    "MedxaiReader": "io.readers",
    "Provenance": "core.saliency",
    "Recipe": "io.recipe",
    "RegionScore": "core.target",
    "Saliency": "core.saliency",
    "SignedScore": "core.target",
    "Status": "core.saliency",
    "Volume": "core.volume",
    "evaluate": "evaluation",
    "evaluate_model": "evaluation.asking",
    "explain": "explanation",
    "load_case": "io.read",
    "load_model": "model.load",
    "load_overlay": "overlay",
    "read_mask": "io.read",
    "read_volume": "io.read",
    "save_overlay": "overlay",
}

__all__ = [
    "Asking",
    "Case",
    "ClassScore",
    "ContrastScore",
    "Evaluation",
    "Geometry",
    "GradCAM",
    "GroupScore",
    "MarginScore",
    "Mask",
    "MedxaiError",
    "MedxaiReader",
    "Provenance",
    "Recipe",
    "RegionScore",
    "Saliency",
    "SignedScore",
    "Status",
    "Volume",
    "evaluate",
    "evaluate_model",
    "explain",
    "load_case",
    "load_model",
    "load_overlay",
    "read_mask",
    "read_volume",
    "save_overlay",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'medxai' has no attribute {name!r}")
    value = getattr(import_module(f"medxai.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
