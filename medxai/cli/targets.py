"""What `--target`, `--output`, `--signed` and `--window` mean."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from medxai.attribution.tiled import Tiled
from medxai.attribution.tiles import Blend
from medxai.core import target as t
from medxai.core.layer import Layer
from medxai.core.protocols import Attributor
from medxai.core.target import Target
from medxai.errors import TargetError, UsageError
from medxai.model.tap import Output

GRAMMAR = (
    "3 (class 3), group:1,4 (sum of classes) or any:1,4 (log sum exp), contrast:3/1,2 (class 3 against 1 and 2), "
    "groups:1,4/2,5 (group against group), margin:3 (class 3 against the runner-up), finer:3 or finer:3/1,2,5 (against "
    "the nearest classes, of these), rest:3 (logit plus log softmax), signed:+ or signed:- (a head with one output), "
    "regression:0 or regression:0/- (output 0, or what lowers it), region:3 (where class 3 wins in a segmentation), "
    "voxel:3@10,20,30, component:3@10,20,30 (what is connected there), channel:5 or neuron:5@1,2,3 (of --output "
    "layer:NAME)"
)
_SIGNS = {"+": 1, "-": -1, "": 1}


def parse_target(text: str) -> Target:
    """The target that `text` names; see GRAMMAR. Raises TargetError."""
    kind, colon, rest = text.partition(":")
    try:
        return _KINDS[kind if colon else "class"](rest if colon else kind)
    except (ValueError, KeyError) as error:
        if isinstance(error, TargetError):
            raise
        raise TargetError("This target cannot be read.", expected=GRAMMAR, found=repr(text)) from error


def parse_output(text: str) -> Output:
    """The part of the model's output that `text` names: layer:NAME, or keys and indices joined by points."""
    if text.startswith("layer:"):
        return Layer(text.removeprefix("layer:"))
    return tuple(int(step) if step.lstrip("-").isdigit() else step for step in text.split("."))


def keeping_sign(method: Attributor) -> Attributor:
    """The method with negative evidence kept. Raises UsageError for one that has no sign."""
    given: Any = method
    if "relu" not in {field.name for field in fields(given)}:
        raise UsageError(f"{type(method).__name__} drops no sign, so there is none to keep.", remedy="Omit --signed.")
    signed: Attributor = replace(given, relu=False)
    return signed


def in_windows(method: Attributor, window: str, overlap: float, margin: int, blend: Blend) -> Attributor:
    """The method in sliding windows of `window` voxels: one number, or one per axis with commas. Raises UsageError."""
    try:
        sizes = _numbers(window)
    except ValueError as error:
        raise UsageError("This window cannot be read.", expected="96, or 96,96,64", found=repr(window)) from error
    given: Any = method
    return Tiled(given, sizes[0] if len(sizes) == 1 else sizes, overlap, blend, margin)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _parts(text: str, mark: str) -> tuple[str, str]:
    before, found, after = text.partition(mark)
    if not found:
        raise ValueError(text)
    return before, after


def _contrast(text: str) -> Target:
    index, references = _parts(text, "/")
    return t.ContrastScore(int(index), _numbers(references))


def _groups(text: str) -> Target:
    first, second = _parts(text, "/")
    return t.GroupContrastScore(_numbers(first), _numbers(second))


def _finer(text: str) -> Target:
    index, _, group = text.partition("/")
    return t.FinerScore(int(index), group=_numbers(group) if group else ())


def _regression(text: str) -> Target:
    index, _, sign = text.partition("/")
    return t.RegressionScore(int(index), _SIGNS[sign])


def _placed(make: Callable[[int, tuple[int, ...]], Target]) -> Callable[[str], Target]:
    def parse(text: str) -> Target:
        index, place = _parts(text, "@")
        return make(int(index), _numbers(place))

    return parse


_KINDS: Mapping[str, Callable[[str], Target]] = {
    "class": lambda text: t.ClassScore(int(text)),
    "group": lambda text: t.GroupScore(_numbers(text)),
    "any": lambda text: t.GroupScore(_numbers(text), "logsumexp"),
    "contrast": _contrast,
    "groups": _groups,
    "margin": lambda text: t.MarginScore(int(text)),
    "finer": _finer,
    "rest": lambda text: t.ReSTScore(int(text)),
    "signed": lambda text: t.SignedScore({"+": 1, "-": -1}[text]),
    "regression": _regression,
    "region": lambda text: t.RegionScore(int(text)),
    "voxel": _placed(t.VoxelScore),
    "component": _placed(t.ComponentScore),
    "channel": lambda text: t.ChannelScore(int(text)),
    "neuron": _placed(t.NeuronScore),
}
