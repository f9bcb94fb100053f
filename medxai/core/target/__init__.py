"""What is explained: one differentiable score per sample, read from the model's output.

Logits, not probabilities: a saturated probability has no gradient. Reference frame (one class, or one against
another) and granularity (class or group) are targets, not methods.
"""

from medxai.core.target.classes import ClassScore, GroupScore, RegressionScore, ReSTScore, SignedScore
from medxai.core.target.contrast import ContrastScore, FinerScore, GroupContrastScore, MarginScore
from medxai.core.target.inner import ChannelScore, NeuronScore, SimilarityScore
from medxai.core.target.protocol import Settling, Target, settled
from medxai.core.target.segmentation import ComponentScore, RegionScore, VoxelScore

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
    "Settling",
    "SignedScore",
    "SimilarityScore",
    "Target",
    "VoxelScore",
    "settled",
]
