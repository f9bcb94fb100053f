"""A bottleneck that was learned: a small network reads from the features how far each gate opens, in one pass."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from medxai.attribution.bottleneck.gate import Gate, bits
from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.objective import NOISE_ABOVE, UNSCORED, Stakes
from medxai.attribution.bottleneck.search import Bottleneck, Settings
from medxai.attribution.bottleneck.statistics import FeatureStatistics
from medxai.attribution.passes import Pass, one_pass, refuse_unbatched
from medxai.attribution.status import judge
from medxai.core.layer import Footprint
from medxai.core.protocols import Attribution, Traits
from medxai.core.saliency import Status
from medxai.core.target import Target
from medxai.errors import InputError, UsageError
from medxai.model.footprint import sited
from medxai.model.place import between
from medxai.shapes import Features, Images, Maps

_LIMIT = 5.0
_ALIKE = "noise scores as the image does: the gates show what was learned of others, and hold no score here"
_PARTS = ("mean", "std", "active")


@dataclass(frozen=True, eq=False)
class Readout:
    """Three 1x1 convolutions, F to F/2 to 2C to C, from the F features of all `layers` to the C gates of the first.

    `statistics`, per channel, normalise each layer; those of the first are the noise. The gates were taught to keep the
    score of `target`, whose loss after each epoch is in `losses`.
    """

    layers: tuple[str, ...]
    target: str
    statistics: tuple[FeatureStatistics, ...]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    losses: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        sizes = [len(one.mean) for one in self.statistics]
        widths = (sum(sizes), *(len(bias) for bias in self.biases))
        shapes = [tuple(weight.shape)[::-1] for weight in self.weights]
        if shapes != [*pairwise(widths)] or len(sizes) != len(self.layers) or widths[-1:] != tuple(sizes[:1]):
            raise InputError(
                "The parts of this readout do not fit each other.",
                expected=f"statistics of {len(self.layers)} layers, weights from {sum(sizes)} features to {sizes[:1]}",
                found=f"weights {shapes}",
            )

    @classmethod
    def untaught(cls, target: Target, statistics: Sequence[FeatureStatistics]) -> "Readout":
        """All gates open: the last bias is 5, the last weight next to nothing; torch's generator draws the others."""
        sizes = [len(one.mean) for one in statistics]
        widths = (sum(sizes), max(1, sum(sizes) // 2), 2 * sizes[0], sizes[0])
        rows = [nn.Linear(*pair) for pair in pairwise(widths)]
        with torch.no_grad():
            rows[-1].weight.mul_(1e-3)
            rows[-1].bias.fill_(_LIMIT)
        weights, biases = (tuple(getattr(row, name).detach() for row in rows) for name in ("weight", "bias"))
        return cls(tuple(one.layer for one in statistics), repr(target), tuple(statistics), weights, biases)

    def __call__(self, normal: Sequence[Features], sigma: Sequence[float]) -> Gate:
        """The gates that normalised features ask for: alpha = 5 tanh(a / 5) of what the convolutions answer.

        Published is a clamp to 5, beyond which a gate has no gradient and stays open for good.
        """
        x = torch.cat(list(normal), 1).movedim(1, -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = nn.functional.linear(x, weight.to(x), bias.to(x)).relu()
        answer = nn.functional.linear(x, self.weights[-1].to(x), self.biases[-1].to(x)).movedim(-1, 1)
        return Gate.of(_LIMIT * (answer / _LIMIT).tanh(), sigma)

    @property
    def digest(self) -> str:
        """A sha256 of the numbers."""
        parts = [part.detach().cpu().contiguous().numpy().tobytes() for part in (*self.weights, *self.biases)]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Readout) and (repr(self), self.statistics) == (repr(other), other.statistics)

    def __hash__(self) -> int:
        return hash((repr(self), self.statistics))

    def __repr__(self) -> str:
        return f"Readout({', '.join(self.layers)} for {self.target}, sha256 {self.digest[:16]})"

    def to_bytes(self) -> bytes:
        """A safetensors file, for `medxai.io.write.write_file`."""
        facts = {
            "layers": list(self.layers),
            "target": self.target,
            "counts": [one.count for one in self.statistics],
            "losses": list(self.losses),
        }
        tensors = {f"{name} {i}": getattr(one, name) for i, one in enumerate(self.statistics) for name in _PARTS}
        tensors |= {f"weight {i}": weight for i, weight in enumerate(self.weights)}
        tensors |= {f"bias {i}": bias for i, bias in enumerate(self.biases)}
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        return save(contiguous, {"readout": json.dumps(facts)})

    @classmethod
    def read(cls, path: str | Path) -> "Readout":
        """The file of `to_bytes`. Raises InputError for another kind of file."""
        try:
            with safe_open(str(path), "pt") as opened:
                facts = json.loads(opened.metadata()["readout"])
                parts = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            statistics = []
            for i, (layer, count) in enumerate(zip(facts["layers"], facts["counts"], strict=True)):
                mean, std, active = (parts[f"{name} {i}"] for name in _PARTS)
                statistics.append(FeatureStatistics(mean, std, active, int(count), "channel", str(layer)))
            weights, biases = (tuple(parts[f"{name} {i}"] for i in range(3)) for name in ("weight", "bias"))
            layers, losses = tuple(facts["layers"]), tuple(facts["losses"])
            return cls(layers, facts["target"], tuple(statistics), weights, biases, losses)
        except Exception as error:
            raise InputError(f"{path} holds no readout.", found=str(error)) from error


def normalised(seen: Pass, statistics: Sequence[FeatureStatistics]) -> tuple[tuple[Features, ...], Footprint]:
    """(R - mu) / sigma of every layer of the pass, laid on the cells of the first, and where these look."""
    shape = tuple(seen.images.shape)
    layers = sited(seen.network, tuple(one.layer for one in seen.captured), shape)
    places = [layer.footprint or Footprint.of_image(shape[2:]) for layer in layers]
    features = [one.activation.detach() for one in seen.captured]
    found = [known.fits(one).normal(one) for known, one in zip(statistics, features, strict=True)]
    return tuple(between(one, place, places[0], shape[2:]) for one, place in zip(found, places, strict=True)), places[0]


def neck_of(seen: Pass, noise: FeatureStatistics, seed: int = 0) -> tuple[Bottleneck, Settings]:
    """All images of the pass held at its first layer, tried with 8 draws of the noise."""
    layer = NoisyLayer.of(seen.captured[0], noise)
    return Bottleneck.at(seen, (layer,), range(len(seen.images)), seed), IBA().settings(layer, seen)


@dataclass(frozen=True, kw_only=True)
class ReadoutIBA:
    """Bits per cell of the readout's first layer that its learned gates let pass: one forward pass and no search.

    What follows the layer runs again with 8 draws of noise, the same in every call, in place of each image's features,
    of what the gates hold back and of what they let pass:
    where noise scores above the image there is no map, and where it scores as much, a notice. The readout knows the one
    target that it was taught with; others are refused with UsageError. It is learned by `train_readout` on a cohort and
    cannot be better than what that holds. `sigma` smooths the gates, in cells, as in training. Source: Schulz et al.
    2020 (who report that the search per image does better).
    """

    traits: ClassVar[Traits] = Traits(reads="activation", cost="1F + 3 n suffix F", magnitude=True)
    readout: Readout
    sigma: float = 1.0

    def __call__(self, model: nn.Module, images: Images, target: Target) -> Attribution:
        """The attribution of one target."""
        return self.attribute(model, images, (target,))[0]

    def attribute(self, model: nn.Module, images: Images, targets: Sequence[Target]) -> tuple[Attribution, ...]:
        """One attribution per target, which all must be the readout's own."""
        refuse_unbatched(images)
        foreign = [repr(target) for target in targets if repr(target) != self.readout.target]
        if foreign:
            raise UsageError(
                "This readout was taught with another target.", expected=self.readout.target, found=", ".join(foreign)
            )
        n = len(images)
        with one_pass(model, images, targets, self.readout.layers, graph=False) as seen:
            normal, place = normalised(seen, self.readout.statistics)
            gate = self.readout(normal, (self.sigma,) * (images.ndim - 2))
            maps = bits(gate.nats(normal[0]) * self.readout.statistics[0].alive.to(images)).sum(1)
            neck, settings = neck_of(seen, self.readout.statistics[0])
            stakes, every = neck.stakes(settings), (len(targets), *[1] * (images.ndim - 1))
            tried = neck.tried(Gate(gate.openness.repeat(every), gate.closure.repeat(every)), settings)
            rows = [slice(n * target, n * target + n) for target in range(len(targets))]
            return tuple(
                self._attribution(seen, maps, stakes.of(some), [one[some] for one in tried], place) for some in rows
            )

    def _attribution(
        self, seen: Pass, maps: Maps, stakes: Stakes, tried: Sequence[Tensor], place: Footprint
    ) -> Attribution:
        """No map where noise scores above the image, as of a bottleneck that is searched; a notice where as much."""
        low, unknown = (stakes.noise > stakes.clean) & (stakes.effect > 0), ~stakes.noise.isfinite()
        shown = maps.masked_fill((low | unknown).view(-1, *[1] * (maps.ndim - 1)), 0)
        found = [
            Status(UNSCORED) if bool(lost) else Status(NOISE_ABOVE) if bool(below) else one
            for lost, below, one in zip(unknown, low, judge(shown, shown, stakes.clean), strict=True)
        ]
        return Attribution(
            shown,
            stakes.clean,
            tuple(found),
            self.readout.layers[0],
            (*seen.remarks, *((_ALIKE,) if bool((stakes.effect == 0).any()) else ())),
            place,
            {
                "clean score": stakes.clean,
                "noise score": stakes.noise,
                "effect": stakes.effect,
                "bottleneck score": tried[0],
                "complement score": tried[1],
                "retained": stakes.retained(tried[0]).masked_fill(stakes.effect == 0, torch.nan),
                "bits": shown.flatten(1).sum(1),
            },
            "bits",
        )
