"""Meta-saliency: what a method sees after the network has learned one step from the very image it explains."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.utils._pytree import tree_map_only

from medxai.attribution.passes import plain
from medxai.core.protocols import Attribution, Attributor, Traits
from medxai.core.target import ClassScore, Target
from medxai.errors import TargetError
from medxai.model.guard import untouched
from medxai.shapes import Images, Scores


@dataclass(frozen=True, kw_only=True)
class MetaSaliency:
    """Any method, on weights theta - rate * d loss / d theta: one step of gradient descent (Rebuffi et al. 2020).

    `loss` is the cross-entropy of the explained class, as in the paper, for a ClassScore of a classifier, or minus the
    score, for any target. `against` steps the other way and so asks for evidence against. Each sample and each target
    has weights of its own, in eval mode; the model's are not copied and come back as they were.
    """

    traits: ClassVar[Traits] = Traits(cost="2F + 2B", shared=False)
    method: Attributor
    rate: float = 1e-4
    loss: Literal["cross entropy", "score"] = "cross entropy"
    against: bool = False

    def __call__(self, model: nn.Module, images: Images, target: Target) -> Attribution:
        """The attribution of one target."""
        return self.attribute(model, images, (target,))[0]

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        """One attribution per target. Raises TargetError where the cross-entropy of a target is not defined."""
        images = plain(images)
        with untouched(model, images.device) as network:
            return tuple(_joined([self._one(network, images, i, t) for i in range(len(images))]) for t in targets)

    def _one(self, network: nn.Module, images: Images, index: int, target: Target) -> Attribution:
        image, alone = images[index : index + 1], OfSample(target, index, len(images))
        with _weights(network, self._stepped(network, image, alone)):
            return self.method.attribute(network, image, (alone,))[0]

    def _stepped(self, network: nn.Module, image: Images, target: "OfSample") -> dict[str, Tensor]:
        leaves = {name: p.detach().requires_grad_() for name, p in network.named_parameters() if p.is_floating_point()}
        with torch.enable_grad():
            output = functional_call(network, leaves, (image,))
            loss = -target(output).sum() if self.loss == "score" else _surprise(target, output)
        slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        rate = -self.rate if self.against else self.rate
        pairs = zip(leaves.items(), slopes, strict=True)
        return {name: leaf.detach() - rate * slope for (name, leaf), slope in pairs if slope is not None}


@dataclass(frozen=True)
class OfSample:
    """The target of one sample of a batch, for an output that holds this sample alone."""

    target: Target
    index: int
    of: int

    def __call__(self, output: Any) -> Scores:
        repeated = tree_map_only(Tensor, lambda leaf: leaf.expand(self.of, *leaf.shape[1:]), output)
        return self.target(repeated)[self.index : self.index + 1]


def _surprise(sample: OfSample, output: object) -> Tensor:
    target = sample.target
    if not isinstance(target, ClassScore) or not isinstance(output, Tensor) or output.shape[1:].numel() < 2:
        raise TargetError(
            f"{target} has no cross-entropy.",
            expected="a ClassScore of a classifier with at least two classes",
            remedy='MetaSaliency(method=..., loss="score") takes any target.',
        )
    sample(output)  # a class that is not there is refused in the target's own words
    chosen = target.index if isinstance(target.index, int) else target.index[sample.index]
    return cross_entropy(output, torch.tensor([chosen], device=output.device))


@contextmanager
def _weights(network: nn.Module, changed: Mapping[str, Tensor]) -> Iterator[None]:
    kept = {name: p.data for name, p in network.named_parameters() if name in changed}
    parameters = dict(network.named_parameters())
    try:
        for name, data in changed.items():
            parameters[name].data = data
        yield
    finally:
        for name, data in kept.items():
            parameters[name].data = data


def _joined(found: Sequence[Attribution]) -> Attribution:
    """One attribution of a batch whose samples were attributed alone."""
    first = found[0]
    return replace(
        first,
        maps=torch.cat([one.maps for one in found]),
        scores=torch.cat([one.scores for one in found]),
        status=tuple(status for one in found for status in one.status),
        notices=tuple(dict.fromkeys(notice for one in found for notice in one.notices)),
        details={name: torch.cat([one.details[name] for one in found]) for name in first.details},
    )
