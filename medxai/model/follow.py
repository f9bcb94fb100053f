"""Follow one forward pass operation by operation: what every tensor sees of the image, and which layer emitted it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from medxai.model.field import Field, Lost
from medxai.model.operations import ACTIVATIONS, LINEAR, NORMS, VIEWS, Call
from medxai.model.rules import propagate


@dataclass(eq=False, slots=True)
class Mark:
    """What is known of one tensor that depends on the image.

    `sources` are the layers whose output it is, also behind a norm. One bit for each layer: `ancestry` those whose
    cells it depends on, `mixed` those whose cells even its prefix tokens depend on, `attended` those from which
    attention lies on the way. `activated` says that it left a nonlinearity, `linear` that it left a convolution or a
    norm. `step` counts the operations before it.
    """

    place: Field
    sources: set[str] = field(default_factory=set)
    ancestry: int = 0
    mixed: int = 0
    attended: int = 0
    activated: bool = False
    linear: bool = False
    step: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Write:
    """Something of the image written into a storage in place: all of it, in one layout, or (`place` None) a part."""

    storage: StorageWeakRef
    step: int
    layout: tuple[tuple[int, ...], tuple[int, ...]]
    place: Field | None


@dataclass(frozen=True, eq=False, slots=True)
class Signature:
    """The arguments of an operation, which PyTorch tells slowly."""

    names: tuple[str, ...]
    defaults: dict[str, Any]
    mutable: bool

    @classmethod
    def of(cls, func: Any) -> "Signature":
        arguments = func._schema.arguments
        defaults = {a.name: a.default_value for a in arguments if a.has_default_value()}
        return cls(tuple(a.name for a in arguments), defaults, func._schema.is_mutable)


class Follow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, marks each tensor computed from `image`, notes the activation that each layer's output enters."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.step = 0
        self.learned_at: list[int] = []
        self.followed_by: dict[str, str] = {}
        self._marks: Any = WeakIdKeyDictionary()
        self._marks[image] = Mark(Field.image(tuple(image.shape)))
        self._written: dict[int, Write] = {}
        self._signatures: dict[Any, Signature] = {}

    def mark(self, tensor: object) -> Mark | None:
        """The mark of a tensor; None where it does not depend on the image."""
        if not isinstance(tensor, Tensor):
            return None
        found: Mark | None = self._marks.get(tensor)
        write = self._written.get(tensor.untyped_storage()._cdata) if self._written else None
        if write is None or (write.place is not None and found is not None and found.step >= write.step):
            return found
        same = write.layout == (tuple(tensor.shape), tensor.stride())
        kind = "a partial in-place write" if write.place is None else "an in-place write through a view"
        lost = Field.unknown(tuple(tensor.shape), Lost(kind))
        place = write.place if same and write.place is not None else lost
        return replace(found, place=place) if found else Mark(place)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        tensors = _tensors(args if not kwargs else (*args, *kwargs.values()))
        seen = {id(t): mark for t in tensors if (mark := self.mark(t)) is not None}
        result = _shortcut(func, args)
        result = func(*args, **(kwargs or {})) if result is None else result
        self.step += 1
        if seen:
            if func not in self._signatures:
                self._signatures[func] = Signature.of(func)
            signature = self._signatures[func]
            given = signature.defaults | dict(zip(signature.names, args, strict=False)) | dict(kwargs or {})
            self._note(func, given, seen, _tensors((result,)))
            if any(id(t) not in seen and t.is_floating_point() and t.numel() > 1 for t in tensors):
                self.learned_at.append(self.step)
            if signature.mutable and len(seen) > (id(args[0]) in seen):
                self._write(args[0])
        return result

    def _note(self, func: Any, args: Mapping[str, Any], seen: Mapping[int, Mark], outs: list[Tensor]) -> None:
        name = func.overloadpacket.__name__.rstrip("_")
        name = "prelu" if name == "_prelu_kernel" else name
        pointwise = torch.Tag.pointwise in func.tags
        if name in ACTIVATIONS:
            self._entered(name, seen.values())
        fields = {key: mark.place for key, mark in seen.items()}
        passing = name in NORMS or name in VIEWS
        activated = name in ACTIVATIONS or (_keeps_sign(name) and all(mark.activated for mark in seen.values()))
        linear = name in LINEAR or name in NORMS or (name in VIEWS and all(mark.linear for mark in seen.values()))
        for position, out in enumerate(outs):
            if out.numel():
                call = Call(name, args, fields, pointwise, out, position)
                place = propagate(call)
                sources = {source for mark in seen.values() for source in mark.sources} if passing else set()
                self._marks[out] = Mark(place, sources, *_ways(call, seen.values()), activated, linear, self.step)

    def _entered(self, activation: str, marks: Iterable[Mark]) -> None:
        for source in (source for mark in marks if not mark.activated for source in mark.sources):
            self.followed_by.setdefault(source, activation)

    def _write(self, target: object) -> None:
        """What other views of the same storage showed before no longer holds."""
        if isinstance(target, Tensor):
            storage = target.untyped_storage()
            whole = target.numel() * target.element_size() >= storage.nbytes()
            mark = self._marks.get(target) if whole else None
            layout = tuple(target.shape), target.stride()
            weak = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            before = self._written.get(storage._cdata)
            if before is None or before.place is not None:
                self._written[storage._cdata] = Write(weak, self.step, layout, mark and mark.place)


def _shortcut(func: Any, args: tuple[Any, ...]) -> Any:
    """The shapes of a batch norm in eval mode, which PyTorch derives on the meta device in Python, at 0.5 ms each."""
    if func is not torch.ops.aten.native_batch_norm.default or not args[0].is_meta or args[5]:
        return None
    fits = all(t is None or t.numel() == args[0].shape[1] for t in args[1:5])
    return (torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)) if fits else None


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among the arguments or results of an operation, which nest them in plain lists at most."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def _ways(call: Call, marks: Collection[Mark]) -> tuple[int, int, int]:
    """Which layers the output depends on, which its prefix tokens depend on, and which before an attention."""
    ancestry = _union(mark.ancestry for mark in marks)
    attended = _union(mark.ancestry if call.attends else mark.attended for mark in marks)
    joining = call.name == "cat"  # the tokens that are put in front know nothing of those behind
    mixed = _union(mark.mixed if mark.place.prefix or joining else mark.ancestry for mark in marks)
    return (mixed if call.picks_prefix else ancestry), mixed, attended


def _keeps_sign(name: str) -> bool:
    return name in VIEWS or name in {"cat", "slice", "split", "split_with_sizes", "constant_pad_nd"} or "pool" in name


def _union(masks: Iterable[int]) -> int:
    result = 0
    for mask in masks:
        result |= mask
    return result
