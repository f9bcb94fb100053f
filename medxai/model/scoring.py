"""A network as a function from images to one number each, without gradients."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medxai.core.target import Target
from medxai.errors import TargetError
from medxai.model.forward import Forward
from medxai.model.guard import calm, lent
from medxai.shapes import Images, Scores

Link = Literal["identity", "softmax", "sigmoid", "log_softmax"]
_LINKS: dict[Link, Callable[[Tensor], Tensor]] = {
    "identity": lambda output: output,
    "softmax": lambda output: output.softmax(1),
    "sigmoid": torch.sigmoid,
    "log_softmax": lambda output: output.log_softmax(1),
}


def linked(output: Any, link: Link) -> Any:
    """The model's output after the link. Raises TargetError for a link of what is no tensor, and a softmax of one."""
    if link != "identity" and not isinstance(output, Tensor):
        raise TargetError(f"No {link} of this output.", expected="a tensor", found=type(output).__name__)
    if link in {"softmax", "log_softmax"} and (output.ndim < 2 or output.shape[1] < 2):
        raise TargetError(
            "The softmax of a single output is 1, whatever the image.", remedy="Use the link sigmoid, or identity."
        )
    return _LINKS[link](output)


@dataclass(frozen=True, eq=False)
class Scorer:
    """One number per image: `target`, read from the linked output of the model, which is left as it was found.

    `link` turns logits into what the curve is drawn of: "softmax" where classes exclude each other, "sigmoid" where
    each stands alone, "identity" for the logits, and for models that answer probabilities already.
    """

    model: nn.Module
    target: Target
    link: Link = "identity"
    forward: Forward = field(default_factory=Forward, repr=False)

    def __call__(self, images: Images) -> Scores:
        with self.held(images.device) as score:
            return score(images)

    @contextmanager
    def held(self, device: torch.device) -> Iterator[Callable[[Images], Scores]]:
        """The same for many batches, each of which finds the model as the first did; it is touched once.

        What else is done to the model meanwhile, a hook that is added too, is undone before the next batch.
        """
        with _asked(self, self.target, device) as score:
            yield score


@dataclass(frozen=True, eq=False)
class Answers:
    """All class scores of each image after the link, without gradients; for metrics that compare classes."""

    model: nn.Module
    link: Link = "softmax"
    forward: Forward = field(default_factory=Forward, repr=False)

    def __call__(self, images: Images) -> Tensor:
        with self.held(images.device) as answer:
            return answer(images)

    @contextmanager
    def held(self, device: torch.device) -> Iterator[Callable[[Images], Tensor]]:
        """The same for many batches, as `Scorer.held`."""
        with _asked(self, lambda output: output, device) as answer:
            yield answer


def held(function: Callable[[Images], Tensor], device: torch.device) -> AbstractContextManager[Callable[[Images], Any]]:
    """`function` for many batches: a network's scores or answers hold it meanwhile, any other function is itself."""
    return function.held(device) if isinstance(function, Scorer | Answers) else nullcontext(function)


@contextmanager
def _asked(
    of: Scorer | Answers, read: Callable[[Any], Tensor], device: torch.device
) -> Iterator[Callable[[Images], Tensor]]:
    with lent(of.model, device) as network:
        run = of.forward.on(network)

        def answer(images: Images) -> Tensor:
            with calm(device):
                return read(linked(run(images), of.link)).detach()

        yield answer
