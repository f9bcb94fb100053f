"""Watch the modules of a network during one forward pass: which layers finish, in which order, with what output."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from medxai.core.layer import CHANNELS_FIRST, Footprint, Layout
from medxai.errors import ModelError
from medxai.model.faults import told
from medxai.model.follow import Follow, Mark


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer as it ran: `shape` is that of its output without the batch; `why` says why it has no footprint.

    `doubt` names the operation of an attention branch that was joined on the way: the footprint is that of the path
    beside it.
    `followed_by` names the activation that the output enters, directly or through a norm; `activated` says that the
    output left a nonlinearity, `linear` that it left a convolution or norm, `passing` that the layer did nothing;
    `feeds_weights` that something learned still runs between it and the model's output, `reaches_output` that the
    model's output depends on its cells (not on its prefix tokens alone), `attended` that attention lies on the way
    from there to the output.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    calls: int = 1
    footprint: Footprint | None = None
    why: str = ""
    doubt: str = ""
    followed_by: str = ""
    activated: bool = False
    linear: bool = False
    passing: bool = False
    layout: Layout = CHANNELS_FIRST
    feeds_weights: bool = False
    reaches_output: bool = False
    attended: bool = False

    @property
    def spatial(self) -> bool:
        """Whether the output is a map: more than one cell, each at a known place of the image."""
        return self.footprint is not None and any(n > 1 for n in self.footprint.shape)


@dataclass(eq=False, slots=True)
class _Finished:
    row: LayerRow
    step: int
    bit: int


@dataclass(eq=False)
class Recorder:
    """Hooks on every module, for the duration of `watching`; knows where a pass broke off."""

    image: Tensor
    follow: Follow = field(init=False)
    running: list[tuple[str, nn.Module, tuple[Mark | None, ...]]] = field(default_factory=list)
    finished: dict[str, _Finished] = field(default_factory=dict)
    _met_convolution: bool = False

    def __post_init__(self) -> None:
        self.follow = Follow(self.image)

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Record what runs inside; afterwards the network has no hook of ours."""
        handles = []
        try:
            for name, module in network.named_modules():
                handles.append(module.register_forward_pre_hook(self._entering(name)))
                handles.append(module.register_forward_hook(self._leaving(name)))
            with self.follow:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def rows(self, output: object) -> tuple[LayerRow, ...]:
        """The layers in order of completion, given the model's output."""
        found = next((m for leaf in tree_leaves(output) if (m := self.follow.mark(leaf))), None)
        ancestry, attended = (found.ancestry, found.attended) if found else (0, 0)
        learned_at = max((step for step in self.follow.learned_at if not found or step <= found.step), default=0)
        return tuple(
            replace(
                done.row,
                followed_by=self.follow.followed_by.get(done.row.name, ""),
                feeds_weights=learned_at > done.step,
                reaches_output=bool(ancestry >> done.bit & 1),
                attended=bool(attended >> done.bit & 1),
            )
            for name, done in self.finished.items()
            if name
        )

    def refusal(self, fault: Exception) -> ModelError:
        """What to tell the user about a pass that broke off."""
        name, module, _ = self.running[-1] if self.running else ("", nn.Module(), ())
        where = f"at layer {name!r} ({type(module).__name__})" if name else "in its own forward()"
        return ModelError(
            f"The network fails {where} on an image of shape {tuple(self.image.shape[1:])} (channels, *space).",
            found=told(fault),
            remedy="Check the channels and the size that the recipe produces against what the network was built for.",
            code="X19",
        )

    def _entering(self, name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def hook(module: nn.Module, args: tuple[object, ...]) -> None:
            self.running.append((name, module, tuple(self.follow.mark(arg) for arg in args)))
            if isinstance(module, nn.modules.conv._ConvNd) and not self._met_convolution and args:
                self._met_convolution = True
                self._check(name, module, args[0])

        return hook

    def _check(self, name: str, module: nn.modules.conv._ConvNd, given: object) -> None:
        rank = len(module.kernel_size)
        if not isinstance(given, Tensor) or (given.ndim, given.shape[1]) == (rank + 2, module.in_channels):
            return
        found, axes = f"{given.shape[1]} input channels", given.ndim - 2
        if axes != rank:
            found = f"a {rank}D model given a {axes}D image of shape {tuple(given.shape[1:])}"
        raise ModelError(
            "The network cannot read this image.",
            expected=f"{module.in_channels} input channels and {rank} axes at its first convolution {name!r}",
            found=found,
            remedy="Change the recipe, or build the network for this number of channels and axes.",
            code="X07",
        )

    def _leaving(self, name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def hook(module: nn.Module, _args: tuple[object, ...], output: object) -> None:
            _, _, entered = self.running.pop()
            before = self.finished.pop(name, None)
            bit = before.bit if before else len(self.finished)
            row = self._row(name, module, output, entered, before.row.calls + 1 if before else 1)
            mark = self.follow.mark(output)
            if mark is not None:
                if not row.passing:
                    mark.sources.add(name)
                mark.ancestry |= 1 << bit
            self.finished[name] = _Finished(row, self.follow.step, bit)

        return hook

    def _row(
        self, name: str, module: nn.Module, output: object, entered: tuple[Mark | None, ...], calls: int
    ) -> LayerRow:
        kind, mark = type(module).__name__, self.follow.mark(output)
        if not isinstance(output, Tensor):
            return LayerRow(name, kind, (), calls, why=f"its output is a {type(output).__name__}, not a tensor")
        shape, rank = tuple(output.shape[1:]), self.image.ndim - 2
        if mark is None:
            return LayerRow(name, kind, shape, calls, why="its output does not depend on the image")
        layout, found = mark.place.placed(rank) or (CHANNELS_FIRST, None)
        why = ""
        if found is None:
            lost = mark.place.lost
            why = f"the path from the image is lost at operation {lost!r}" if lost else _no_map(shape, rank)
        return LayerRow(
            name,
            kind,
            shape,
            calls,
            footprint=found,
            why=why,
            doubt=mark.place.doubt if found else "",
            activated=mark.activated,
            linear=mark.linear,
            passing=mark in entered,
            layout=layout,
        )


def _no_map(shape: tuple[int, ...], rank: int) -> str:
    if len(shape) == rank + 1:
        return "its axes are not those of the image in their order"
    return f"its output of shape {shape} is not (channels, {', '.join('ijk'[:rank])})"
