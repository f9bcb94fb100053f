"""Foreign libraries as oracles; what they import for pictures is left out, because no test draws one."""

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn

_PICTURES = ("cv2", "ttach", "tqdm", "torchvision", "torchvision.transforms", "torchvision.transforms.functional")


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    known = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: MagicMock() for name in names})
    try:
        yield
    finally:
        for name, module in known.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def grad_cam_library() -> ModuleType:
    """pytorch_grad_cam, imported once without torchvision, which would replace the CPU build of torch."""
    if "pytorch_grad_cam" not in sys.modules:
        with warnings.catch_warnings(), _without(_PICTURES):
            warnings.simplefilter("ignore")
            importlib.import_module("pytorch_grad_cam")
    return sys.modules["pytorch_grad_cam"]


def by_grad_cam(name: str, activation: Tensor, gradient: Tensor) -> Tensor:
    """What the library's method of that name makes of these, at layer resolution, before its ReLU and scaling."""
    peer = getattr(grad_cam_library(), name)
    method = peer.__new__(peer)
    method.activations_and_grads = MagicMock()  # released when the object goes
    if name == "FEM":
        method.k = 2
    arrays = activation.detach().numpy(), gradient.detach().numpy()
    found = method.get_cam_image(activation, None, None, *arrays, False)
    return torch.from_numpy(np.asarray(found, dtype=np.float32))


def split(model: nn.Module, at: int, x: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Activation of a sequential network before module `at`, and the gradient of one class there, by plain autograd."""
    head = nn.Sequential(*list(model)[at:])
    activation = nn.Sequential(*list(model)[:at])(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(head(activation)[:, index].sum(), activation)
    return activation.detach(), gradient
