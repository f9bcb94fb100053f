"""How far a map moves when its image hardly does."""

from collections.abc import Callable

import torch
from torch import Tensor

from medxai.metrics.spec import MetricSpec, Undefined
from medxai.metrics.trial import Trial
from medxai.model.capture import capture
from medxai.model.guard import untouched
from medxai.shapes import Images, Maps, Scores

_EPS = 1e-6


def sensitivities(trial: Trial) -> Tensor:
    """|S(x') - S(x)| / |S(x)| in the Euclidean norm, (draw, image), x' uniform within `trial.reach` of x.

    NaN where a map is degenerate.
    """
    return torch.stack([distance(trial.explain(trial.nearby(draw)), trial.maps) for draw in range(trial.draws)])


def max_sensitivity(trial: Trial) -> float:
    """The largest relative change of the map within 2 % of the image's range, mean over images (Yeh et al. 2019)."""
    return _mean(trial, sensitivities(trial).amax(0))


def avg_sensitivity(trial: Trial) -> float:
    """The mean relative change of the map within 2 % of the image's range, mean over images (Yeh et al. 2019)."""
    return _mean(trial, sensitivities(trial).mean(0))


def input_stability(trial: Trial) -> float:
    """The largest ratio of the relative changes of map and image (RIS, Agarwal et al. 2022), mean over images.

    max |S(x') - S(x)| / |S(x)| / max(|x' - x| / |x|, 1e-6), Euclidean, over the x' of the same class. The paper divides
    voxel by voxel, which the voxels near zero decide alone.
    """
    return _relative(trial, lambda images: distance(images, trial.images))


def output_stability(trial: Trial) -> float:
    """The largest ratio of the map's relative change to the change of the logits (ROS, Agarwal et al. 2022).

    max |S(x') - S(x)| / |S(x)| / max(|h(x') - h(x)|, 1e-6), Euclidean, over the x' of the same class; mean over images.
    """
    first = trial.output(trial.images)
    return _relative(trial, lambda images: torch.linalg.vector_norm((trial.output(images) - first).flatten(1), dim=1))


def representation_stability(trial: Trial) -> float:
    """The largest ratio of the relative changes of map and explained layer (RRS, Agarwal et al. 2022).

    max |S(x') - S(x)| / |S(x)| / max(|L(x') - L(x)| / |L(x)|, 1e-6), L the output of the layer that the method
    explains; mean over images. Undefined for a method that explains the image itself.
    """
    layer = trial.layer
    if not layer:
        return Undefined("the method explains no layer")

    def read(images: Images) -> Tensor:
        with untouched(trial.model, images.device) as network, capture(network, layer) as captured:
            network(images.float())
        return captured.output.detach()

    first = read(trial.images)
    return _relative(trial, lambda images: distance(read(images), first))


def distance(second: Maps | Images | Tensor, first: Maps | Images | Tensor) -> Scores:
    """|second - first| / |first| per sample, Euclidean, double precision; NaN where `first` is zero."""
    a, b = first.double().flatten(1), second.double().flatten(1)
    ratio: Tensor = torch.linalg.vector_norm(b - a, dim=1) / torch.linalg.vector_norm(a, dim=1)
    return ratio


def _relative(trial: Trial, moved: Callable[[Images], Tensor]) -> float:
    classes = _classes(trial.output(trial.images))
    ratios = []
    for draw in range(trial.draws):
        images = trial.nearby(draw)
        ratio = distance(trial.explain(images), trial.maps) / moved(images).double().cpu().clamp(min=_EPS)
        same = _classes(trial.output(images)) == classes
        ratios.append(ratio.masked_fill(~same.cpu(), -torch.inf))
    worst = torch.stack(ratios).amax(0)
    return _mean(trial, worst.masked_fill(worst == -torch.inf, torch.nan))


def _mean(trial: Trial, values: Tensor) -> float:
    return trial.mean(values.tolist(), "no changed image has a map of the same class")


def _classes(output: Tensor) -> Tensor:
    """The winning class of each sample; of a segmentation or regression nobody wins."""
    return output.argmax(1) if output.ndim == 2 else torch.zeros(len(output), device=output.device)


METRICS = tuple(
    MetricSpec(fn, needs="method", best=0.0, span=(0.0, torch.inf), better="lower")
    for fn in (max_sensitivity, avg_sensitivity, input_stability, output_stability, representation_stability)
)
