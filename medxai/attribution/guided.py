"""Guided Grad-CAM: guided backpropagation where Grad-CAM sees the class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from medxai.attribution.cam import LayerMethod
from medxai.attribution.evidence import Evidence
from medxai.attribution.gradient_cams import GradCAM
from medxai.attribution.graph import operations
from medxai.attribution.passes import Pass
from medxai.attribution.status import judge
from medxai.core.layer import Layer
from medxai.core.protocols import Attribution, Traits
from medxai.errors import ModelError
from medxai.model.capture import Captured, capture
from medxai.model.footprint import sited
from medxai.model.place import on_image
from medxai.shapes import Images, Maps, Scores

_GUIDED = "_GuidedReLU"
_UNGUIDED = frozenset(
    (
        *("Relu", "Threshold", "ClampMin", "Clamp", "Hardtanh", "LeakyRelu", "RreluWithNoise", "PreluKernel", "Elu"),
        *("Gelu", "Silu", "Mish", "Softplus", "Hardswish", "Glu", "SwishImplementation", "FMish", "Tanh"),
    )
)


@dataclass(frozen=True, kw_only=True)
class GuidedGradCAM(LayerMethod):
    """map = sum_c guided_c * placed(GradCAM) on the image's grid (Selvaraju et al. 2017).

    guided is dy/dx with, at every ReLU, only the positive part of the gradient let through where the input was positive
    (Springenberg et al. 2015), whether a module, a function or in place; GradCAM is laid on the image by the layer's
    footprint. Raises ModelError for a network without a ReLU, where there is nothing to guide; activations of other
    kinds beside ReLUs keep their plain gradient, and a notice names them. Guided backpropagation hardly depends on the
    weights of upper layers (Adebayo et al. 2018): look at it for detail, not for proof.
    """

    traits: ClassVar[Traits] = Traits(cost="2F + 2B")
    relu: bool = False

    def read(self, seen: Pass, captured: Captured) -> tuple[Attribution, ...]:
        (layer,) = sited(seen.network, (captured.layer,), tuple(seen.images.shape))
        with _Guiding(), capture(seen.network, Layer("")) as image:
            output = seen.network(seen.images)
        found = []
        for target, scores in zip(seen.targets, seen.scores, strict=True):
            evidence = Evidence(captured, scores)
            where = GradCAM().map(evidence).relu()
            with torch.enable_grad():
                guided, unguided = _guided(image, target(output))
            found.append(self._drawn(guided, where, evidence, layer, (*seen.remarks, *unguided)))
        return tuple(found)

    def _drawn(
        self, guided: Images, where: Maps, evidence: Evidence, layer: Layer, notices: tuple[str, ...]
    ) -> Attribution:
        shape = tuple(guided.shape[2:])
        placed = where[:, None] if layer.footprint is None else on_image(where[:, None], layer.footprint, shape)
        raw = (guided * placed).sum(1)
        maps, scores = raw.relu() if self.relu else raw, evidence.scores.detach()
        status = judge(raw, maps, scores, evidence.reaction)
        return Attribution(maps, scores, status, "", (*layer.notices, *notices))


def _guided(image: Captured, scores: Scores) -> tuple[Images, tuple[str, ...]]:
    """The guided gradient of the image, and which activations on the way could not be guided."""
    names = {operation.name for operation in operations(scores, image.output)}
    left = sorted(names & _UNGUIDED)
    if _GUIDED not in names:
        raise ModelError(
            "Guided backpropagation changes what ReLUs send back, and there is none between the image and the score.",
            expected="a network with ReLUs",
            found=f"{', '.join(left) or 'no activation'}",
            remedy="Use a method that asks nothing of the activations, as HiResCAM or LayerCAM.",
        )
    remark = (f"activations that cannot be guided keep their plain gradient: {', '.join(left)}",)
    return image.gradient(scores), remark if left else ()


class _GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.relu()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        (y,) = ctx.saved_tensors
        passed: Tensor = gradients[0].relu() * (y > 0)
        return passed


class _Guiding(TorchFunctionMode):
    """Inside, every ReLU sends back only positive gradients; what it computes is the same, in place or not."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func not in _RELUS:
            return func(*args, **given)
        x, *rest = (*args, *given.values()) if args else (given.pop("input"), *given.values())
        if func not in _IN_PLACE and not any(rest):
            return _apply(x)
        return x.copy_(_apply(x.clone()))


def _apply(x: Tensor) -> Tensor:
    y: Tensor = _GuidedReLU.apply(x)  # type: ignore[no-untyped-call]
    return y


_IN_PLACE = frozenset((torch.relu_, Tensor.relu_))
_RELUS = _IN_PLACE | {torch.relu, Tensor.relu, torch.nn.functional.relu}

METHODS = (GuidedGradCAM,)
