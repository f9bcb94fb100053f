"""One layer of a whole image that never went through the network at once."""

from dataclasses import dataclass

from torch import Tensor

from medxai.errors import LayerError
from medxai.shapes import Features, Scores


@dataclass(frozen=True, eq=False)
class Joined:
    """What the windows left in the layer, laid on the grid of the whole image, as evidence of one target."""

    activation: Features
    scores: Scores
    slope: Features

    @property
    def output(self) -> Tensor:
        """Refused: the graph from the layer to the score was never whole."""
        raise LayerError("What lies between the layer and the score cannot be examined in windows.")

    def gradient(self, scores: Scores, *, differentiable: bool = False) -> Features:
        """d(scores) / d(activation), for these scores only, without graph."""
        if differentiable or scores is not self.scores:
            raise LayerError("Only first derivatives of the score itself can be taken in windows.")
        return self.slope
