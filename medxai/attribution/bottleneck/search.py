"""Search the gates of a bottleneck: the prefix of the network ran once, only what follows the layer runs again."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medxai.attribution.bottleneck.gate import Gate, bits
from medxai.attribution.bottleneck.objective import Stakes
from medxai.attribution.bottleneck.statistics import FeatureStatistics
from medxai.attribution.masking import Asked
from medxai.core.layer import Layer
from medxai.errors import NonFiniteError
from medxai.model.resume import Resumable
from medxai.shapes import Features

Loss = Callable[[Tensor, Stakes], Tensor]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a gate is searched: Adam with rate `rate` for `steps` steps from alpha = `start`, over `copies` of the noise.

    `at_once` bounds how many copies are in the network at a time; `epsilon` is Adam's.
    """

    steps: int
    rate: float
    copies: int
    sigma: tuple[float, ...]
    start: float = 5.0
    epsilon: float = 1e-15
    shared: bool = False
    at_once: int = 16


@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """Per target the bits of each layer cell (t, *m), the loss of each step (t, n), and what is left of the score."""

    bits: Tensor
    openness: Tensor
    losses: Tensor
    capacity: Tensor
    stakes: Stakes
    kept: Tensor
    complement: Tensor


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """One image held at one layer, with noise that looks like its features.

    `inverse` swaps what passes: the network sees the noise where the gate is open, and the features where it is shut.
    """

    asked: Asked
    held: Resumable
    layer: Layer
    features: Features
    statistics: FeatureStatistics
    seed: int
    inverse: bool = False

    @property
    def targets(self) -> int:
        return len(self.asked.seen.targets)

    def search(self, loss: Loss, beta: Tensor, settings: Settings) -> Found:
        """Minimise mean over copies of loss(score) + beta * mean over features of KL, one gate per target."""
        shape = (self.targets, 1 if settings.shared else self.features.shape[1], *self.features.shape[2:])
        alpha = torch.full(shape, settings.start, device=self.features.device).requires_grad_()
        optimiser = torch.optim.Adam([alpha], settings.rate, eps=settings.epsilon)
        stakes, dice = self._stakes(settings), self._dice(0)
        losses, capacity = list[Tensor](), list[Tensor]()
        for _ in range(settings.steps if bool(stakes.live.any()) else 0):
            with torch.enable_grad():
                gate = Gate.of(alpha, settings.sigma)
                leaf = Gate(gate.openness.detach().requires_grad_(), gate.closure.detach().requires_grad_())
                terms = self._descend(leaf, loss, stakes, settings, dice)
                information = leaf.nats(self.deviation) * self.alive
                information = information.expand(self.targets, *self.features.shape[1:]).flatten(1).mean(1)
                (beta * information).sum().backward()  # type: ignore[no-untyped-call]
            if not bool(terms[stakes.live].isfinite().all()):
                raise NonFiniteError(
                    "The search of the bottleneck met a loss that is not finite.",
                    found=f"{terms.tolist()} at step {len(losses)}",
                    remedy="Lower the rate, or check the scores of the network on noisy features.",
                )
            optimiser.zero_grad()
            torch.autograd.backward([gate.openness, gate.closure], [leaf.openness.grad, leaf.closure.grad])
            optimiser.step()
            losses.append((terms + beta * information).detach())
            capacity.append(information.detach())
        return self._found(Gate.of(alpha.detach(), settings.sigma), losses, capacity, stakes, settings)

    @property
    def deviation(self) -> Tensor:
        """r = (R - mu) / sigma."""
        return (self.features - self.statistics.mean) / self.statistics.std.clamp(min=self.floor)

    @property
    def alive(self) -> Tensor:
        """1 where the feature is ever active, else 0: dead features carry nothing."""
        return (self.statistics.active > 0.01).to(self.features)

    floor = 0.01

    def _dice(self, offset: int) -> torch.Generator:
        """The same draws in every search, so that searches differ by what is searched alone."""
        return torch.Generator(self.features.device).manual_seed(self.seed + offset)

    def _noise(self, copies: int, dice: torch.Generator) -> Tensor:
        """(copies, 1, k, *m): the same for every target, so that targets are explained alike together and alone."""
        drawn = torch.randn((copies, *self.features.shape[1:]), generator=dice, device=self.features.device)
        return (self.statistics.mean + self.statistics.std.clamp(min=self.floor) * drawn)[:, None]

    def _descend(self, leaf: Gate, loss: Loss, stakes: Stakes, settings: Settings, dice: torch.Generator) -> Tensor:
        """The mean loss of each target; its gradient is left in the gate."""
        total = torch.zeros(self.targets, device=self.features.device)
        through = leaf.inverted if self.inverse else leaf
        noise = self._noise(settings.copies, dice)
        for part in torch.split(noise, max(1, settings.at_once // self.targets)):
            scores = self._scores(through, part)
            term = loss(scores, stakes).sum(0) / settings.copies
            term[stakes.live].sum().backward()  # type: ignore[no-untyped-call]
            total += term.detach()
        return total

    def _scores(self, gate: Gate, noise: Tensor) -> Tensor:
        """(copies, t): each target's score of what its own gate lets pass."""
        passed = gate.passed(self.features, noise) * self.alive
        flat = passed.flatten(0, 1)
        output = self.held(self.layer.layout.write(flat, self.held.activation))
        scores = self.asked.scores(output, len(flat)).reshape(self.targets, len(noise), self.targets)
        return torch.diagonal(scores, dim1=0, dim2=2)

    def _stakes(self, settings: Settings) -> Stakes:
        shut = torch.zeros((self.targets, *[1] * (self.features.ndim - 1)), device=self.features.device)
        clean = torch.stack([score.detach()[self.asked.sample] for score in self.asked.seen.scores])
        noise = self._drawn(Gate(shut, 1 - shut), settings)
        return Stakes(clean, noise.mean(0), noise.std(0, correction=0))

    def _drawn(self, gate: Gate, settings: Settings) -> Tensor:
        """The scores (copies, t) of what the gate lets pass, without gradient."""
        with torch.no_grad():
            parts = torch.split(self._noise(settings.copies, self._dice(1)), max(1, settings.at_once // self.targets))
            return torch.cat([self._scores(gate, part) for part in parts])

    def _found(
        self, gate: Gate, losses: list[Tensor], capacity: list[Tensor], stakes: Stakes, settings: Settings
    ) -> Found:
        information = bits(gate.nats(self.deviation) * self.alive).sum(1)
        return Found(
            information,
            gate.openness.mean(1),
            torch.stack(losses, 1) if losses else stakes.clean[:, None].repeat(1, settings.steps) * torch.nan,
            torch.stack(capacity, 1) if capacity else torch.zeros_like(stakes.clean)[:, None],
            stakes,
            self._drawn(gate, settings).mean(0),
            self._drawn(gate.inverted, settings).mean(0),
        )
