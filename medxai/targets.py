"""Every target by name: `from medxai.targets import FinerScore`."""

from medxai.core.target import (
    ChannelScore,
    ClassScore,
    ComponentScore,
    ContrastScore,
    FinerScore,
    GroupContrastScore,
    GroupScore,
    MarginScore,
    NeuronScore,
    RegionScore,
    RegressionScore,
    ReSTScore,
    SignedScore,
    SimilarityScore,
    VoxelScore,
)

__all__ = [
    "ChannelScore",
    "ClassScore",
    "ComponentScore",
    "ContrastScore",
    "FinerScore",
    "GroupContrastScore",
    "GroupScore",
    "MarginScore",
    "NeuronScore",
    "ReSTScore",
    "RegionScore",
    "RegressionScore",
    "SignedScore",
    "SimilarityScore",
    "VoxelScore",
]
