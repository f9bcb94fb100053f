"""Is the saliency where the disease is: every metric beside its chance rows, on the annotation's own grid."""

from medxai.evaluation.case import belonging, evaluate, evaluate_labels, share_within
from medxai.evaluation.chance import Chance
from medxai.evaluation.score import Evaluation, Score

__all__ = ["Chance", "Evaluation", "Score", "belonging", "evaluate", "evaluate_labels", "share_within"]
