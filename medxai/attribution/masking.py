"""The engine of methods that ask the network about changed images: one sweep answers for all targets at once."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from medxai.attribution.cam import LayerMethod, combine
from medxai.attribution.passes import Pass
from medxai.attribution.status import judge
from medxai.core.layer import Layer
from medxai.core.protocols import Attribution
from medxai.model.capture import Captured
from medxai.model.footprint import sited
from medxai.model.forward import Forward
from medxai.model.scoring import Link, linked
from medxai.shapes import Features, Images

Answers = Float[Tensor, "t n"]
PerTarget = Float[Tensor, "t"]
_ROUNDING = 1e-6
_ON_PROCESSOR = 2**19


@dataclass(frozen=True, eq=False, slots=True)
class Swept:
    """What the sweep over one image found: a weight per target and channel, and by how much any change moved a score.

    `details` are numbers worth telling, `notices` sentences.
    """

    weights: Float[Tensor, "t k"]
    reaction: PerTarget
    details: Mapping[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """The network as it answers, by `ask`, changed versions of image number `sample` of the pass."""

    seen: Pass
    sample: int
    ask: Callable[[Images], Any]
    link: Link = "identity"

    @property
    def image(self) -> Images:
        """The image as it is, (1, c, *s)."""
        return self.seen.images[self.sample : self.sample + 1]

    def about(self, targets: Sequence[int]) -> "Asked":
        """The same, about some of the targets."""
        return replace(self, seen=replace(self.seen, targets=tuple(self.seen.targets[t] for t in targets)))

    def __call__(self, images: Images) -> Answers:
        """The score of every target for each image, from one forward pass."""
        return self.scores(self.ask(images), len(images))

    def scores(self, output: Any, count: int) -> Answers:
        """The score of every target for each of the `count` answers in `output`.

        A target speaks of the whole batch of the pass, where each image may have its own class or region; so an answer
        stands in every place of that batch and is read at this image's.
        """
        rows = _rows(linked(output, self.link), count, len(self.seen.images))
        return torch.stack([torch.stack([goal(row)[self.sample] for goal in self.seen.targets]) for row in rows], 1)


@dataclass(frozen=True, kw_only=True)
class Sweeping(LayerMethod):
    """map = sum_k w_k A_k, where the weights come of the scores of changed images: subclasses say how.

    The scores are the target's own, read from the model's answer after `link`. No more than `voxels` values of changed
    images are in the network at a time (32 films of 256 x 256, 2 volumes of 96^3), but at least one image. On a
    processor, which hands large pieces of memory back after every use, 8 such films or 2 volumes are the most.
    """

    link: Link = "identity"
    voxels: int = 2**21

    @abstractmethod
    def sweep(self, asked: Asked, A: Features, layer: Layer) -> Swept:
        """The weights of the channels of A, the activation (1, k, *m) that one image left in `layer`."""

    def read(self, seen: Pass, captured: Captured) -> tuple[Attribution, ...]:
        activation = captured.activation.detach()
        (layer,) = sited(seen.network, (captured.layer,), tuple(seen.images.shape))
        ask = Forward().on(seen.network)
        asked = [Asked(seen, sample, ask, self.link) for sample in range(len(activation))]
        found = [self.sweep(one, A[None], layer) for one, A in zip(asked, activation, strict=True)]
        notices = dict.fromkeys((*layer.notices, *seen.remarks, *(n for one in found for n in one.notices)))
        details = {name: activation.new_tensor([one.details[name] for one in found]) for name in found[0].details}
        results = []
        for target, scores in enumerate(seen.scores):
            raw = combine(torch.stack([one.weights[target] for one in found]), activation)
            maps = raw.relu() if self.relu else raw
            reaction = torch.stack([one.reaction[target] for one in found])
            status = judge(raw, maps, scores.detach(), reaction, "reaction")
            results.append(
                Attribution(maps, scores.detach(), status, layer.name, tuple(notices), layer.footprint, details)
            )
        return tuple(results)

    def portions(self, numbers: Tensor, *shape: int) -> tuple[Tensor, ...]:
        """The numbers of changed images, or activations, of this shape, as many as may be in the network at a time."""
        if not len(numbers):
            return ()
        most = self.voxels // prod(shape)
        if numbers.device.type == "cpu":
            most = min(most, max(2, _ON_PROCESSOR // prod(shape)))
        return torch.split(numbers, max(1, most))


def moved(answers: Answers, rest: PerTarget) -> PerTarget:
    """The largest |score - rest| over the answers; 0 where that is float32 rounding."""
    change = (answers - rest[:, None]).abs()
    scale = torch.cat([answers, rest[:, None]], 1).abs().amax(1)
    most = torch.cat([change, torch.zeros_like(rest[:, None])], 1).amax(1)
    return most.masked_fill(most <= _ROUNDING * scale, 0)


def _rows(output: Any, count: int, batch: int) -> Iterator[Any]:
    """The answers one by one, each repeated to a batch."""
    leaves, structure = tree_flatten(output)
    for i in range(count):
        yield tree_unflatten([_row(leaf, i, count, batch) for leaf in leaves], structure)


def _row(leaf: Any, i: int, count: int, batch: int) -> Any:
    if not isinstance(leaf, Tensor) or not leaf.ndim or len(leaf) != count:
        return leaf
    return leaf[i : i + 1].expand(batch, *leaf.shape[1:])
