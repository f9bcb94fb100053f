"""Run a network again from a layer on: what had finished before the layer is remembered, never computed again.

Works on any module, not only on a chain. A clean pass notes the answers of the outermost module calls that ended
before the layer answered; a replay gives those answers in their order, puts the layer's new output in, and lets
ordinary code run the rest, skip connections included. Answers that nothing reads are forgotten.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from medxai.errors import LayerError, ModelError
from medxai.model.alike import alike, tensors
from medxai.model.alter import answering
from medxai.model.capture import submodule
from medxai.model.faults import FAULTS, told
from medxai.model.layout import channels_last
from medxai.model.recompute import made_again
from medxai.model.replay import CleanPass, clean_pass, versions
from medxai.model.shortcuts import Shortcuts

_IMAGE = -1


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What one call answers in a replay; `copied` where later code writes into it."""

    module: nn.Module
    value: Any
    copied: bool

    def at(self, n: int, images: int, folded: bool) -> Any:
        """The answer for n times the images; a first axis of another length holds the batch as its outer factor if
        `folded`.
        """
        return tree_map_only(Tensor, lambda t: self._leaf(t, n, images, folded), self.value)

    def _leaf(self, leaf: Tensor, n: int, images: int, folded: bool) -> Tensor:
        if n > 1 and leaf.ndim and (leaf.shape[0] == images or (folded and leaf.shape[0] != 1)):
            leaf = leaf.expand(n, *leaf.shape).flatten(0, 1)
        return leaf.clone() if self.copied else leaf


@dataclass(frozen=True, eq=False, slots=True)
class Resumable:
    """A network held at one layer for one image, or several.

    `activation` and `output` are those of the clean pass. `full` says why the whole network is run each time with
    the layer's output replaced; it is empty where the part before the layer is skipped. With `last` what follows the
    layer reads channels last: in the plane, where it can be faster. It takes the `shortcuts`.
    """

    model: nn.Module
    layer: nn.Module
    activation: Tensor
    output: Any
    image: Answer
    answers: tuple[Answer, ...]
    writes: bool = False
    folded: bool = True
    last: bool = False
    shortcuts: Shortcuts = field(default_factory=Shortcuts)
    full: str = ""

    def __call__(self, activation: Tensor) -> Any:
        """The model's output if the layer had emitted `activation`, which repeats the images any number of times.

        Differentiable; raises ModelError where the layer lies in a part of the network whose activations are made again
        in the backward pass: nothing would stand in for it then.
        """
        n, rest = divmod(activation.shape[0], self.activation.shape[0])
        if rest or activation.shape[1:] != self.activation.shape[1:]:
            raise LayerError(
                "This is no output of the layer.",
                expected=f"(n, *{tuple(self.activation.shape[1:])})",
                found=f"{tuple(activation.shape)}",
            )
        images = len(self.image.value)
        image = self.image.at(n, images, folded=False)
        given = activation.clone() if self.writes else activation
        given = channels_last(given) if self.last else given
        if self.layer is self.model:
            with self.shortcuts.taken():
                return self.model(given)
        stand_in = partial(_stand_in, given, anyway=made_again())
        if self.full:
            with _emitting(self.layer, stand_in):
                return self.model(image)
        plan: dict[nn.Module, deque[Callable[[], Any]]] = {self.layer: deque([stand_in])}
        for answer in self.answers:
            plan.setdefault(answer.module, deque()).append(partial(answer.at, n, images, self.folded))
        answers = {module: _queued(queue, module.forward) for module, queue in plan.items()}
        with self.shortcuts.taken(besides=plan), answering(answers):
            output = self.model(image)
        if any(plan.values()):
            raise ModelError("The network took another path than in its first pass, so it cannot be resumed.")
        return output


def resumable(model: nn.Module, layer: str, image: Tensor, noted: CleanPass | None = None) -> Resumable:
    """Hold `model` (in eval mode) at `layer`, or at "", the image, for images of shape (b, channels, *space).

    Every replay is checked once against the clean pass, after another image went through the network; where it cannot
    be resumed truly, the network is run whole and `full` says why. A clean pass that was `noted` is not made again.
    Raises LayerError for a layer that runs more than once or emits no tensor, ModelError for a network that answers the
    same image differently.
    """
    target = submodule(model, layer) if layer else model
    with torch.inference_mode(mode=False), torch.no_grad():
        image = image.detach().clone()
        if target is model:
            held = Resumable(model, model, image, model(image.clone()), Answer(model, image, True), (), writes=True)
            return next(one for one in _layouts(held) if one is held or not _objection(one))
        clean = noted or clean_pass(model, layer, image.clone())
        whole = Resumable(model, target, clean.activation, clean.output, Answer(target, image, True), (), writes=True)
        try:
            thin = _thin(whole, clean, layer)
            model(_another(image))  # what modules keep for themselves is now that of another image
        except FAULTS as fault:
            reason = told(fault)
        else:
            for laid, folded in product(_layouts(thin), (True, False)):
                candidate = replace(laid, folded=folded)
                reason = _objection(candidate)
                if not reason:
                    return candidate
        whole = replace(whole, full=reason)
        if not _true(whole, 1):
            raise ModelError(
                "The network answers the same image differently each time.",
                expected="a deterministic forward pass",
                remedy="Put it in eval mode and switch off what draws random numbers.",
            )
        return whole


def _layouts(held: Resumable) -> Iterator[Resumable]:
    """Channels last in the plane and shortcuts, where these can be faster, then the network as it is."""
    shortcuts = Shortcuts.of(held.model)
    if held.activation.ndim == 4 and held.activation.device.type == "cpu":
        yield replace(held, last=True, shortcuts=shortcuts)
    elif shortcuts.chains:
        yield replace(held, shortcuts=Shortcuts(chains=shortcuts.chains))
    yield held


def _another(image: Tensor) -> Tensor:
    """Noise, which is the same for every image of this shape and device."""
    return torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image)


def _thin(whole: Resumable, clean: CleanPass, layer: str) -> Resumable:
    """Only what a replay reads is kept, and what it writes is copied first."""
    read, written, writes = _probe(whole, clean)
    keep = {
        call.number for call in clean.finished if call.number in read and (call.number in written or call.overwritten)
    }
    if keep:
        clean = clean_pass(whole.model, layer, whole.image.value.clone(), keep)
    answers = tuple(
        Answer(call.module, call.answer if call.number in read else _forget(call.answer), call.number in keep)
        for call in clean.finished
    )
    image = whole.image.value if _IMAGE in read else _forget(whole.image.value)
    return replace(whole, answers=answers, image=Answer(whole.layer, image, _IMAGE in written), writes=writes)


def _probe(whole: Resumable, clean: CleanPass) -> tuple[set[int], set[int], bool]:
    """Which answers a replay reads, which it writes, and whether it writes the layer's output."""
    image, activation = whole.image.value.clone(), clean.activation.clone()
    owners = {id(leaf): call.number for call in clean.finished for leaf in tensors(call.answer)} | {id(image): _IMAGE}
    before = {call.number: versions(call.answer) for call in clean.finished} | {_IMAGE: versions(image)}
    start = activation._version
    answers = tuple(Answer(call.module, call.answer, False) for call in clean.finished)
    with _Reads(owners) as reads:
        output = replace(whole, answers=answers, image=Answer(whole.layer, image, False), writes=False)(activation)
    after = {call.number: versions(call.answer) for call in clean.finished} | {_IMAGE: versions(image)}
    handed_on = {owners[id(leaf)] for leaf in tensors(output) if id(leaf) in owners}
    written = {number for number in after if after[number] != before[number]}
    return reads.read | handed_on, written, activation._version != start


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the owners of the tensors that operations read while it is active."""

    def __init__(self, owners: Mapping[int, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.owners = owners
        self.read: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.read |= {self.owners[id(leaf)] for leaf in tensors([args, kwargs]) if id(leaf) in self.owners}
        return func(*args, **(kwargs or {}))


def _queued(queue: deque[Callable[[], Any]], forward: Callable[..., Any]) -> Callable[..., Any]:
    """The first calls are answered from the queue, later ones by the module itself."""
    return lambda *args, **kwargs: queue.popleft()() if queue else forward(*args, **kwargs)


def _stand_in(given: Tensor, *, anyway: bool) -> Tensor:
    """What the layer emits; `anyway` where all of the network runs in what is made again, by the caller's wish."""
    if given.requires_grad and made_again() and not anyway:
        raise ModelError(
            "The network makes the activations of this layer again in its backward pass (checkpointing), so it cannot "
            "be resumed there.",
            remedy="Pick a layer outside of that part, or build the network without checkpointing, with these weights.",
        )
    return given


@contextmanager
def _emitting(layer: nn.Module, stand_in: Callable[[], Tensor]) -> Iterator[None]:
    handle = layer.register_forward_hook(lambda *_: stand_in())
    try:
        yield
    finally:
        handle.remove()


def _objection(run: Resumable) -> str:
    try:
        return "" if _true(run, 2) else "a replay does not give what a full pass gives"
    except FAULTS as fault:
        return told(fault)


def _true(run: Resumable, n: int) -> bool:
    repeated = run.activation.repeat(n, *[1] * (run.activation.ndim - 1))
    return alike(run(repeated), run.output, n)


def _forget(value: Any) -> Any:
    """Tensors of the same shapes that take no memory and poison what reads them."""
    return tree_map_only(Tensor, _ghost, value)


def _ghost(leaf: Tensor) -> Tensor:
    filling = float("nan") if leaf.is_floating_point() or leaf.is_complex() else 0
    return torch.full((), filling, dtype=leaf.dtype, device=leaf.device).expand(leaf.shape)
