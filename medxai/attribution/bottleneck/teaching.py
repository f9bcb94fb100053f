"""Teach a readout on a cohort to open as few gates as keep the score of each image."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor, nn

from medxai.attribution.bottleneck.gate import Gate
from medxai.attribution.bottleneck.objective import Objective, Stakes
from medxai.attribution.bottleneck.readout import Readout, neck_of, normalised
from medxai.attribution.bottleneck.statistics import FeatureStatistics, estimate
from medxai.attribution.passes import Pass, one_pass
from medxai.core.layer import Layer
from medxai.core.target import Target
from medxai.errors import NonFiniteError, UsageError
from medxai.model.alter import altered
from medxai.model.layers import located
from medxai.model.trace import trace
from medxai.shapes import Scores


def train_readout(
    model: nn.Module,
    batches: Iterable[Tensor],
    target: Target,
    layers: Sequence[str | Layer],
    *,
    beta: float = 0.1,
    epochs: int = 10,
    rate: float = 1e-3,
) -> Readout:
    """The readout whose gates, at the first of `layers`, minimise [1 - retained]+^2 + beta * mean KL over `batches`.

    Retained is (y - yn) / (y0 - yn), of the score y of what passes, y0 of the image, yn of noise alone, the mean of 8
    draws in each image; images whose score noise does not lower teach the gates to shut. `batches` is gone through once
    per layer for its statistics and once per epoch, each batch with two forward passes and one backward, and, to know
    what noise scores, three more that hold the network at the layer and the draws through what follows it. Adam's
    `rate` is 1e-3; published, with 10 epochs of ImageNet, 1e-5. Torch's generator draws. Raises NonFiniteError, and
    UsageError for `batches` that can be gone through only once.
    """
    if isinstance(batches, Iterator):
        raise UsageError(
            "These batches can be gone through only once.",
            expected="what starts anew for every layer and epoch",
            found=f"a {type(batches).__name__}",
            remedy="Give a list of tensors, or a loader that gives tensors.",
        )
    readout = Readout.untaught(target, [estimate(model, batches, layer) for layer in layers])
    parts = [part.requires_grad_() for part in (*readout.weights, *readout.biases)]
    optimiser, losses = torch.optim.Adam(parts, rate), list[float]()
    places: dict[tuple[int, ...], list[Layer]] = {}
    for _ in range(epochs):
        of_epoch = list[float]()
        for images in batches:
            shape = tuple(images.shape)
            if shape not in places:
                traced = trace(model, shape)
                places[shape] = [located(traced, name) for name in readout.layers]
            with one_pass(model, images, (target,), places[shape], graph=False) as seen, torch.enable_grad():
                neck, settings = neck_of(seen, readout.statistics[0], int(torch.randint(2**31, ())))
                loss = _loss(readout, seen, beta, neck.stakes(settings))
                slopes = torch.autograd.grad(loss, parts)
            for part, slope in zip(parts, slopes, strict=True):
                part.grad = slope
            optimiser.step()
            of_epoch.append(float(loss.detach()))
        losses.append(fmean(of_epoch))
    return replace(
        readout,
        weights=tuple(part.detach() for part in readout.weights),
        biases=tuple(part.detach() for part in readout.biases),
        losses=tuple(losses),
    )


def _loss(readout: Readout, seen: Pass, beta: float, stakes: Stakes) -> Tensor:
    """The loss of a batch, with the stakes of each of its images."""
    features = seen.captured[0].activation.detach()
    known = readout.statistics[0].fits(features)
    normal, _ = normalised(seen, readout.statistics)
    gate = readout(normal, (1.0,) * (features.ndim - 2))
    kept, live = _passed(seen, gate, known), stakes.live
    term = Objective().keep(kept[live], stakes.of(live)).sum() / len(kept)
    loss = term + beta * (gate.nats(normal[0]) * known.alive).mean()
    if not bool(loss.isfinite()):
        raise NonFiniteError(
            "The readout met a loss that is not finite.",
            found=f"scores {kept.tolist()}",
            remedy="Lower the rate, or check the scores of the network on noisy features.",
        )
    return loss


def _passed(seen: Pass, gate: Gate, known: FeatureStatistics) -> Scores:
    """The score of what the gates let pass of the first layer, with one draw of noise for each image."""
    features = seen.captured[0].activation.detach()
    noise = known.mean + known.spread * torch.randn_like(features)
    passed = gate.passed(features, noise) * known.alive
    with altered(seen.network, seen.captured[0].layer, lambda _: passed):
        return seen.targets[0](seen.network(seen.images))
