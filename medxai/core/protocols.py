"""The shape of an attribution method, and of what it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from medxai.core.layer import Footprint
from medxai.core.saliency import Status
from medxai.core.target import Target
from medxai.shapes import Images, Maps, Scores


@dataclass(frozen=True, eq=False)
class Attribution:
    """Raw signed maps (one per sample) of one target, at the resolution of `layer`; "" is the image itself.

    `footprint` says where the cells look where that is not the footprint of `layer` in the whole image; `details` are
    what else the method found out, one number per sample or several. `amount` names what the values count, as "bits",
    where each is the content of its cell.
    """

    maps: Maps
    scores: Scores
    status: tuple[Status, ...]
    layer: str
    notices: tuple[str, ...] = ()
    footprint: Footprint | None = None
    details: Mapping[str, Tensor] = field(default_factory=dict)
    amount: str = ""


@dataclass(frozen=True, slots=True)
class Traits:
    """What must be known of a method before it is used.

    `reads`: the evidence (gradients of the score, scores of changed inputs, or activations alone, which know nothing of
    the target). `cost`: forward (F) and backward (B) passes per image, for K channels, n samples or T steps. `shared`:
    targets share the forward passes. `magnitude`: the map tells how strongly, not whether for or against. `random`: it
    draws random numbers. `sufficient`: the map need only keep the score, so it may show more than the evidence.
    """

    reads: Literal["gradient", "score", "activation"] = "gradient"
    cost: str = "1F + 1B"
    shared: bool = True
    magnitude: bool = False
    random: bool = False
    sufficient: bool = False


@runtime_checkable
class Attributor(Protocol):
    """A frozen description of a method: holds no model and no state, and leaves the model as it found it."""

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        """One attribution per target; what the targets share (the forward pass) is computed once."""
        ...


@runtime_checkable
class Physical(Protocol):
    """A method with lengths in millimetres, which it can state in voxels of the image that the network receives."""

    def in_voxels(self, spacing_mm: Callable[[], tuple[float, ...]]) -> Attributor:
        """The method without millimetres; `spacing_mm` tells the size of a voxel and raises where it is unknown."""
        ...
