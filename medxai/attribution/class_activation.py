"""The class activation map: the head's own weights, where the head has weights for a map."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from medxai.attribution import cam
from medxai.attribution.evidence import Evidence
from medxai.attribution.graph import operations
from medxai.core.protocols import Traits
from medxai.errors import LayerError
from medxai.shapes import Weights

_EVEN = 1e-4


@dataclass(frozen=True, kw_only=True)
class CAM(cam.WeightedMap):
    """map = sum_k W_ck A_k with W_ck the head's weight of channel k for the score (Zhou et al. 2016).

    For heads that average the layer over positions and are linear, before or after (a 1x1 convolution), and then the
    cells average to y minus the head's bias. In 3D the same map is called Saliency Tubes (Stergiou et al. 2019).
    The weights are read from the score's gradient, n dy/dA_k, which is exactly W_ck for such heads; any other head
    raises LayerError naming what it does.
    """

    traits: ClassVar[Traits] = Traits()
    relu: bool = False

    def weights(self, evidence: Evidence) -> Weights:
        gradient = evidence.G.flatten(2)
        _refuse_other_heads(evidence, gradient)
        return gradient.sum(2)


def _refuse_other_heads(evidence: Evidence, gradient: Tensor) -> None:
    path = operations(evidence.scores, evidence.output)
    others = list(dict.fromkeys(operation.name for operation in path if not operation.affine))
    spread = gradient.amax(2) - gradient.amin(2)
    uneven = bool((spread > _EVEN * gradient.abs().amax((1, 2))[:, None]).any())
    if others or uneven:
        raise LayerError(
            "CAM needs a linear head on the average of the layer.",
            expected="global average pooling and linear layers or 1x1 convolutions between the layer and the score",
            found=f"{', '.join(others)} after the layer" if others else "weights that differ from cell to cell",
            remedy="Pick the layer before the pooling and explain logits, or use GradCAM, which asks nothing of the "
            "head.",
        )


METHODS = (CAM,)
