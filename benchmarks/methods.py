"""One map of one layer of MONAI's DenseNet121, by medxai and by its peers, each as its own manual says."""

import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from unittest.mock import patch

import torch
from torch import Tensor, nn

LAYER = "class_layers.relu"
Run = Callable[..., object]  # (model, images, classes, layer=LAYER)


def network(dimensions: int, classes: int = 14) -> nn.Module:
    from monai.networks.nets import DenseNet121

    torch.manual_seed(0)
    return DenseNet121(spatial_dims=dimensions, in_channels=1, out_channels=classes).eval()


def forward(model: nn.Module, images: Tensor, _classes: int) -> object:
    with torch.no_grad():
        return model(images)


def ours(model: nn.Module, images: Tensor, classes: int, layer: str = LAYER) -> object:
    from medxai import ClassScore, GradCAM

    return GradCAM(layer=layer).attribute(model, images, [ClassScore(c) for c in range(classes)])


def catalogued(name: str) -> Run:
    """The method of that name with its defaults."""

    def run(model: nn.Module, images: Tensor, classes: int, layer: str = LAYER) -> object:
        from medxai import ClassScore, catalog

        return catalog.method(name, layer).attribute(model, images, [ClassScore(c) for c in range(classes)])

    return run


def every() -> dict[str, tuple[str, Run]]:
    """Every method of the catalogue: its stated cost, and how it is run."""
    from medxai import catalog

    return {name: (catalog.traits(name).cost, catalogued(name)) for name in sorted(catalog.methods())}


def at_layer(run: Run, layer: str) -> Run:
    """The same at another layer."""
    return partial(run, layer=layer)


def named(name: str) -> Run:
    """A row of METHODS, or a method of the catalogue."""
    return METHODS[name] if name in METHODS else catalogued(name)


def with_monai(model: nn.Module, images: Tensor, classes: int, layer: str = LAYER) -> object:
    from monai.visualize import GradCAM

    cam = GradCAM(nn_module=model, target_layers=layer)
    return [cam.compute_map(images, class_idx=c) for c in range(classes)]


def with_torchcam(model: nn.Module, images: Tensor, classes: int, layer: str = LAYER) -> object:
    from torchcam.methods import GradCAM

    with GradCAM(model, target_layer=layer) as extractor:
        scores = model(images)
        return [extractor(c, scores, normalized=False, retain_graph=c + 1 < classes) for c in range(classes)]


def with_captum(model: nn.Module, images: Tensor, classes: int, layer: str = LAYER) -> object:
    from captum.attr import LayerGradCam

    cam = LayerGradCam(model, model.get_submodule(layer))
    return [cam.attribute(images, c) for c in range(classes)]


def with_grad_cam(model: nn.Module, images: Tensor, classes: int, layer: str = LAYER) -> object:
    """At the size of the layer: to stretch its maps over the image it needs OpenCV."""
    from tests.peers import grad_cam_library

    library = grad_cam_library()
    base, aims = (import_module(f"pytorch_grad_cam.{name}") for name in ("base_cam", "utils.model_targets"))
    unstretched = patch.object(base, "scale_cam_image", lambda cam, _size=None: cam)
    with unstretched, library.GradCAM(model, [model.get_submodule(layer)]) as cam:
        return [cam(images, [aims.ClassifierOutputTarget(c)] * len(images)) for c in range(classes)]


METHODS: dict[str, Run] = {
    "no-grad forward": forward,
    "medxai": ours,
    "torchcam": with_torchcam,
    "captum": with_captum,
    "grad-cam": with_grad_cam,
    "MONAI": with_monai,
}


def quietly(run: Run, model: nn.Module, images: Tensor, classes: int) -> Callable[[], object]:
    """The call with its imports done and its warnings silenced, so that only its work is measured."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = torch.rand(1, 1, *[64] * (images.ndim - 2))
        run(network(images.ndim - 2), small, 1)
    return partial(run, model, images, classes)
