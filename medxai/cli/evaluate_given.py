"""Which options each way of scoring uses: another one that was given is refused, never passed over."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, fields
from inspect import signature
from typing import Any

from medxai.io.options import ReadOptions

_ALWAYS = ("saliency", "masks", "preset", "seed", "as_json")
_READING = ("spacing", *(field.name for field in fields(ReadOptions)))
_NETWORK = ("model", "weights", "recipe", "target", "method", "layer", "output", "link", "factory_arg", "device")
_BESIDE = ("domain", "atlas", "image", "other", "again", "labels", "mask_image")
TABLE = (*_ALWAYS, *_READING, "metric", "noise", "places")
CRITERIA = (*_ALWAYS, *_READING, *_NETWORK, "retrained", "other_model", "other_weights")
FILMS = (*_ALWAYS, "tune_maps", "tune_truth", "points")
MAP = (*TABLE, *_BESIDE)
MAP_AND_NETWORK = (*MAP, *_NETWORK)


def refuse_unused(command: Callable[..., None], given: Mapping[str, Any], asked: str, used: Collection[str]) -> None:
    """Raise UsageError where `given`, parameters of the command, differ from their defaults and are not `used`.

    Metrics that are chosen by name leave no use for a preset.
    """
    from medxai.errors import UsageError

    if given["metric"] and "metric" in used:
        asked, used = f"{asked} with --metric", {*used} - {"preset"}
    values = {**given, **asdict(given["options"])}
    unused = [
        parameter.annotation.__metadata__[0].default.split("/")[0]
        for name, parameter in signature(command).parameters.items()
        if name not in used and values[name] not in (parameter.default, [])
    ]
    if unused:
        raise UsageError(f"{asked} makes no use of {', '.join(unused)}.", remedy="Leave it out.")
