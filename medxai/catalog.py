"""Every method and metric, by name. Built-ins are rows; others arrive by the entry points medxai.methods, .metrics."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, TypeVar

from medxai.attribution import (
    ablation,
    cf_cam,
    class_activation,
    combined,
    eigen_cams,
    full_grad,
    gradient_cams,
    guided,
    kernel_pca,
    masking_cams,
    norm_grad,
    opti_cam,
    poly_cam,
    segmentation_cams,
    smooth,
)
from medxai.attribution.bottleneck import co_iba, iba, input_iba, multi_layer, path, regression
from medxai.core.protocols import Attributor, Traits
from medxai.errors import CatalogError, UnknownNameError, UsageError
from medxai.metrics import (
    boxes,
    chexlocalize,
    complexity,
    correlation,
    deletion,
    detection,
    distance,
    drops,
    ehr,
    equivariance,
    localisation,
    peaks,
    randomisation,
    rfxg,
    robustness,
    sufficiency,
    thresholds,
)
from medxai.metrics.spec import MetricSpec

T = TypeVar("T")
_METHODS: tuple[Callable[..., Attributor], ...] = (
    *class_activation.METHODS,
    *gradient_cams.METHODS,
    *eigen_cams.METHODS,
    *kernel_pca.METHODS,
    *smooth.METHODS,
    *norm_grad.METHODS,
    *cf_cam.METHODS,
    *full_grad.METHODS,
    *guided.METHODS,
    *segmentation_cams.METHODS,
    *masking_cams.METHODS,
    *ablation.METHODS,
    *opti_cam.METHODS,
    *poly_cam.METHODS,
    *combined.METHODS,
    *iba.METHODS,
    *regression.METHODS,
    *input_iba.METHODS,
    *multi_layer.METHODS,
    *co_iba.METHODS,
    *path.METHODS,
)
_BUILT_IN = (
    *localisation.METRICS,
    *thresholds.METRICS,
    *ehr.METRICS,
    *distance.METRICS,
    *detection.METRICS,
    *peaks.METRICS,
    *boxes.METRICS,
    *chexlocalize.METRICS,
    *complexity.METRICS,
    *deletion.METRICS,
    *drops.METRICS,
    *correlation.METRICS,
    *sufficiency.METRICS,
    *rfxg.METRICS,
    *randomisation.METRICS,
    *robustness.METRICS,
    *equivariance.METRICS,
)


def methods() -> Mapping[str, Callable[..., Attributor]]:
    """Attribution methods: name to class."""
    return _index((cls.__name__, cls) for cls in (*_METHODS, *_plugins("medxai.methods")))


def method(name: str, layer: str = "auto") -> Attributor:
    """The method of that name with its defaults; `layer` is for those that explain one, or several joined by commas.

    Raises UnknownNameError, and UsageError for several layers where the method does not join them.
    """
    cls: Any = find(methods(), name)
    own = {field.name for field in fields(cls)}
    if "," in layer and "layers" not in own:
        joining = [other for other, kind in methods().items() if "layers" in getattr(kind, "__dataclass_fields__", {})]
        raise UsageError(
            f"{name} joins no layers.",
            expected="at most one layer",
            found=layer,
            remedy=f"These join several: {joining}.",
        )
    if "layer" in own:
        made: Attributor = cls(layer=layer)
    else:
        made = cls(layers=tuple(layer.split(","))) if "layers" in own and layer != "auto" else cls()
    return made


def traits(name: str) -> Traits:
    """What is known of the method of that name before it is used; a plug-in that states nothing has the defaults."""
    found: Traits = getattr(find(methods(), name), "traits", Traits())
    return found


def metrics() -> Mapping[str, MetricSpec]:
    """Metrics: name to row of facts."""
    return _index((m.name, m) for m in (*_BUILT_IN, *_plugins("medxai.metrics")))


def find(table: Mapping[str, T], name: str) -> T:
    """The row of that name; an unknown name is answered with its nearest neighbours."""
    if name not in table:
        near = difflib.get_close_matches(name, table, n=3, cutoff=0.0)
        raise UnknownNameError(f"There is no {name!r} in the catalogue.", remedy=f"Did you mean one of {near}?")
    return table[name]


def _plugins(group: str) -> tuple[Any, ...]:
    return tuple(_loaded(point) for point in entry_points(group=group))


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise CatalogError(
            f"The plug-in {point.name!r} ({point.value}) cannot be loaded.",
            found=f"{type(error).__name__}: {error}",
            remedy="Repair or uninstall the package that registers it.",
        ) from error


def _index(rows: Iterable[tuple[str, T]]) -> Mapping[str, T]:
    table: dict[str, T] = {}
    for name, value in rows:
        if name in table:
            raise CatalogError(f"{name!r} is registered twice: {table[name]!r} and {value!r}.")
        table[name] = value
    return MappingProxyType(table)
