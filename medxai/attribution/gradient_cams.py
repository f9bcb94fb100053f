"""CAMs whose weights come from one backward pass."""

from dataclasses import dataclass

from medxai.attribution.cam import CAM
from medxai.attribution.evidence import Evidence
from medxai.shapes import Weights


@dataclass(frozen=True, kw_only=True)
class GradCAM(CAM):
    """map = relu(sum_k w_k A_k) with w_k the mean over positions of dy/dA_k (Selvaraju et al. 2017)."""

    def weights(self, evidence: Evidence) -> Weights:
        return evidence.G.flatten(2).mean(2)


METHODS = (GradCAM,)
