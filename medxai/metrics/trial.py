"""A method that can be asked again: the one value that a metric of sanity or robustness is a function of."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from statistics import fmean

import torch
from torch import nn

from medxai.core.protocols import Attribution, Attributor
from medxai.core.target import Target
from medxai.errors import TargetError, UsageError
from medxai.metrics.similarity import on_grid
from medxai.metrics.spec import Undefined
from medxai.model.guard import bare, seeded, untouched
from medxai.model.scoring import Link, Scorer
from medxai.shapes import Images, Maps, Scores


@dataclass(frozen=True, eq=False)
class Trial:
    """`method` explains `target` of `model` for each of `images`; what was asked once is not asked again.

    `draws` is how many changed images (or noisy copies) are asked per image, no more than `batch` at a time, and
    `radius` how far they lie from it, as a share of the image's own range. Every draw depends on `seed` alone. The
    model is left as it was found, and the method answers with the same random numbers each time.
    """

    method: Attributor
    model: nn.Module
    images: Images
    target: Target
    radius: float = 0.02
    draws: int = 10
    stages: int = 8
    seed: int = 0
    batch: int = 8
    link: Link | None = None

    @cached_property
    def attributions(self) -> Sequence[Attribution]:
        """What the method says of the images as they are, one attribution per batch."""
        return self.ask(self.images)

    @cached_property
    def maps(self) -> Maps:
        """The raw maps of the images, spread over the image grid; NaN where the method calls its map degenerate."""
        return torch.cat([self.spread(one) for one in self.attributions])

    @property
    def silent(self) -> str:
        """Why the first image that has no map has none, or ""."""
        return next((s.reason for one in self.attributions for s in one.status if not s.ok), "")

    @property
    def layer(self) -> str:
        """The layer that the method explains; "" is the image itself."""
        return self.attributions[0].layer

    @property
    def reach(self) -> Scores:
        """`radius` times the range of each image, in the units of the network's input."""
        flat = self.images.flatten(1)
        return self.radius * (flat.amax(1) - flat.amin(1))

    def ask(
        self, images: Images, model: nn.Module | None = None, target: Target | None = None
    ) -> Sequence[Attribution]:
        """The attributions of `images`, `batch` at a time."""
        found: list[Attribution] = []
        for some in torch.split(images, self.batch):
            with seeded(self.seed, images.device):
                found += self.method.attribute(model or self.model, some, (target or self.target,))
        return found

    def explain(self, images: Images, model: nn.Module | None = None, target: Target | None = None) -> Maps:
        """The raw maps of `images`, spread over the image grid; NaN where the method calls its map degenerate."""
        return torch.cat([self.spread(one) for one in self.ask(images, model, target)])

    def spread(self, found: Attribution) -> Maps:
        """The maps of an attribution over the image grid; NaN where its status is degenerate."""
        maps = on_grid(found.maps.detach().float().cpu(), self.images.shape[2:])
        lost = torch.tensor([not status.ok for status in found.status])
        return maps.masked_fill(lost.reshape(-1, *[1] * (maps.ndim - 1)), torch.nan)

    def output(self, images: Images) -> torch.Tensor:
        """The model's output, a tensor, without gradients."""
        with untouched(self.model, images.device) as network:
            answer = network(images.float())
        if not isinstance(answer, torch.Tensor):
            raise TargetError("This metric reads one tensor.", found=type(answer).__name__, remedy="Name its part.")
        return answer.detach()

    def mean(self, values: Iterable[float], otherwise: str) -> float:
        """The mean of the defined values; where there is none, undefined for the method's own reason or `otherwise`."""
        defined = [value for value in values if not isnan(value)]
        return fmean(defined) if defined else Undefined(self.silent or otherwise)

    def scores(self, images: Images) -> Scores:
        """The target's score of each image after the link, without gradients. Raises UsageError without a link."""
        return self._scorer(images)

    @cached_property
    def _scorer(self) -> Scorer:
        if self.link is None:
            raise UsageError(
                "Nothing says how this output becomes a score.", expected="a link: softmax, sigmoid or identity"
            )
        return Scorer(self.model, self.target, self.link)

    def copy(self) -> nn.Module:
        """A copy of the network whose weights may be changed."""
        return deepcopy(bare(self.model))

    def generator(self, stream: int) -> torch.Generator:
        """A fresh source of random numbers; each `stream` is another sequence, the same at every call."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + stream)

    def nearby(self, draw: int) -> Images:
        """Each image plus noise drawn uniformly from a ball of radius `reach` in the maximum norm."""
        noise = 2 * torch.rand(self.images.shape, generator=self.generator(draw)).to(self.images) - 1
        return self.images + noise * self.reach.reshape(-1, *[1] * (self.images.ndim - 1))
