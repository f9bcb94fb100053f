"""The pass of the images as they are, from which every class-activation method starts."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from medxai.attribution.status import saturation, vacancy
from medxai.core.layer import Layer
from medxai.core.target import Target, settled
from medxai.errors import LayerError, ModelError, UsageError
from medxai.model.capture import Captured, capture
from medxai.model.guard import untouched
from medxai.model.layers import look_up
from medxai.model.replay import CleanPass, clean_pass
from medxai.model.resume import Resumable, resumable
from medxai.model.trace import trace
from medxai.shapes import Images, Scores


@dataclass(frozen=True, eq=False, slots=True)
class Pass:
    """What the layers emitted and what each target scored; `network` may be run again while the pass is open.

    What a target reads from the clean output before it can score (a predicted region) is settled in `targets`. `noted`
    is what a replay from the first layer needs to know of the pass, or empty.
    """

    network: nn.Module
    images: Images
    targets: tuple[Target, ...]
    captured: tuple[Captured, ...]
    scores: tuple[Scores, ...]
    remarks: tuple[str, ...]
    noted: list[CleanPass] = field(default_factory=list)

    def resumable(self, layer: Layer, samples: Sequence[int]) -> Resumable:
        """The network held at the layer for some of the images; raises what `medxai.model.resume.resumable` does.

        The first call takes the note of the pass, which lets its memory go, and uses it where it is of this layer.
        """
        noted = self.noted.pop() if self.noted else None
        known = noted if noted is not None and noted.layer == layer.name else None
        return resumable(self.network, layer.name, self.images[list(samples)], known)


@contextmanager
def one_pass(
    model: nn.Module,
    images: Images,
    targets: Sequence[Target],
    layers: Sequence[str | Layer],
    *,
    graph: bool = True,
    note: bool = False,
) -> Iterator[Pass]:
    """One forward pass in float32 where `images` lie; the model is as it was found when the block ends.

    Without `graph` what gradients need is let go before the block begins; of one image the pass may then be noted, with
    `note`, and need not be made again to resume it. Raises UsageError where `images` are no tensor, and ModelError
    where the network cannot read them.
    """
    refuse_unbatched(images)
    note = note and not graph and len(images) == 1
    with untouched(model, images.device) as network:
        images = plain(images)
        found = [look_up(network, layer, tuple(images.shape)) for layer in layers]
        try:
            with ExitStack() as hooks:
                captured = tuple(hooks.enter_context(capture(network, layer)) for layer in found)
                noted = [clean_pass(network, found[0].name, images.clone())] if note and found[0].name else []
                output = noted[0].output if noted else network(images.clone())
        except (RuntimeError, ValueError):
            _refuse_unreadable(network, tuple(images.shape))
            raise
        for one in captured:
            _check(one, images)
        fixed = tuple(settled(target, output) for target in targets)
        with torch.enable_grad():
            scores = tuple(target(output) for target in fixed)
        remarks = (*saturation(output, scores), *vacancy(fixed))
        if not graph:
            scores = tuple(score.detach() for score in scores)
        del output
        yield Pass(network, images, fixed, captured, scores, remarks, noted)


def _refuse_unreadable(network: nn.Module, shape: tuple[int, ...]) -> None:
    """Raises ModelError where the first convolution reads other channels or axes; other faults speak for themselves."""
    try:
        trace(network, shape)
    except ModelError as named:
        if named.code == "X07":
            raise


def _check(captured: Captured, images: Images) -> None:
    """Raises LayerError where what the layer emitted is no map of these images."""
    found = captured.activation
    if found.ndim != images.ndim or len(found) != len(images):
        raise LayerError(
            f"Layer {captured.layer.name!r} emits no map of these images.",
            expected=f"{len(images)} samples with channels and {images.ndim - 2} axes of cells",
            found=f"an output of shape {tuple(captured.output.shape)}",
            remedy="Pick another layer; `medxai layers` lists them.",
            code="X15",
        )


def refuse_unbatched(images: object, remedy: str = "") -> None:
    """Raises UsageError for what is no tensor of images."""
    if not isinstance(images, Tensor):
        raise UsageError(
            "These are no images.",
            expected="one tensor (n, channel, *space)",
            found=f"a {type(images).__name__}",
            remedy=remedy or "Stack images of one size with torch.stack; those of several sizes go one by one.",
        )


def plain(images: Images) -> Images:
    """The images in float32, without graph; what was made in inference mode is copied.

    Raises UsageError for what is no tensor.
    """
    refuse_unbatched(images)
    images = images.detach().clone() if images.is_inference() else images.detach()
    return images.float()
