"""Search the gates of a bottleneck: the prefix of the network ran once, only what follows the layer runs again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from medxai.attribution.bottleneck.gate import Gate, bits, smooth
from medxai.attribution.bottleneck.noisy import Noise, NoisyLayer
from medxai.attribution.bottleneck.objective import Stakes
from medxai.attribution.passes import Pass
from medxai.core.layer import Footprint
from medxai.errors import NonFiniteError
from medxai.model.alter import altered
from medxai.model.place import between
from medxai.model.resume import Resumable
from medxai.shapes import Features

Loss = Callable[[Tensor, Stakes], Tensor]
_DRAWS = 8


@dataclass(frozen=True, slots=True)
class Settings:
    """How a gate is searched: Adam with rate `rate` for `steps` steps from alpha = `start`, over `copies` of the noise.

    `at_once` bounds how many activations are in the network at a time; `epsilon` is Adam's. With `upward` a score that
    noise raises is not searched.
    """

    steps: int
    rate: float
    copies: int
    sigma: tuple[float, ...]
    start: float = 5.0
    epsilon: float = 1e-15
    shared: bool = False
    at_once: int = 16
    upward: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """Per row the bits of each layer cell (r, *m), the loss of each step (r, n), and what is left of the score."""

    bits: Tensor
    gate: Gate
    losses: Tensor
    capacity: Tensor
    stakes: Stakes
    kept: Tensor
    complement: Tensor

    def where(self, chosen: Tensor, other: "Found") -> "Found":
        """These rows where `chosen`, else those of another search of the same bottleneck."""

        def pick(own: Tensor, others: Tensor) -> Tensor:
            return torch.where(chosen.reshape(-1, *[1] * (own.ndim - 1)), own, others)

        return Found(
            pick(self.bits, other.bits),
            Gate(pick(self.gate.openness, other.gate.openness), pick(self.gate.closure, other.gate.closure)),
            pick(self.losses, other.losses),
            pick(self.capacity, other.capacity),
            self.stakes,
            pick(self.kept, other.kept),
            pick(self.complement, other.complement),
        )


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """Images of a pass held at the first of `layers`, with noise that looks like its features; a gate for each target.

    Row t n + i is target t of image `samples[i]`, of n. On each of the `further` layers lies the same gate, which has
    to be shared by all channels then. `inverse` swaps what passes: the network sees the noise where the gate is open,
    and the features where it is shut. `known` is the openness, (r, 1, *m) and below 1, of gates that are paid for: only
    what passes beyond them costs. `guide` are the stakes of the bottleneck that found them.
    """

    seen: Pass
    samples: range
    held: Resumable
    first: NoisyLayer
    further: tuple[NoisyLayer, ...]
    seed: int
    inverse: bool = False
    known: Tensor | None = None
    guide: Stakes | None = None

    @classmethod
    def at(
        cls, seen: Pass, layers: Sequence[NoisyLayer], samples: range, seed: int, *, inverse: bool = False
    ) -> "Bottleneck":
        """The images `samples` of the pass. Where there are several layers, each must know its footprint."""
        first, *further = (layer.among(samples) for layer in layers)
        held = seen.resumable(first.layer, samples)
        return cls(seen, samples, held, first.laid_last() if held.last else first, tuple(further), seed, inverse)

    @property
    def rows(self) -> int:
        return len(self.seen.targets) * len(self.samples)

    def search(self, loss: Loss, beta: Tensor, settings: Settings, stakes: Stakes | None = None) -> Found:
        """Minimise mean over copies of loss(score) + beta * mean over features of KL, one gate per row.

        The gates of scores that are not searched are shut, and let no bit pass. `stakes` are asked of the network where
        no earlier search found them. What is left of the score is asked of draws that no step has seen.
        """
        stakes = stakes or self.stakes(settings)
        gate, losses, capacity = self.descent(loss, beta, settings, stakes)
        return Found(bits(self.nats(gate)).sum(1), gate, losses, capacity, stakes, *self.tried(gate, settings))

    def tried(self, gate: Gate, settings: Settings) -> tuple[Tensor, Tensor]:
        """The scores (r) of what the gate lets pass, and of what it holds back."""
        drawn = self._fresh(settings)
        kept, complement = (self._tried(one, drawn, settings.at_once).mean(0) for one in (gate, gate.inverted))
        return kept, complement

    def descent(self, loss: Loss, beta: Tensor, settings: Settings, stakes: Stakes) -> tuple[Gate, Tensor, Tensor]:
        """The gates that are left after all steps, and the loss and the price of each step, (r, n)."""
        channels = 1 if settings.shared else self.features.shape[1]
        shape = (self.rows, channels, *self.features.shape[2:])
        alpha = torch.full(shape, settings.start, device=self.features.device).requires_grad_()
        optimiser = torch.optim.Adam([alpha], settings.rate, eps=settings.epsilon)
        noise = Noise(self._layers, settings.copies, self._dice(0))
        losses, capacity = list[Tensor](), list[Tensor]()
        for _ in range(settings.steps if bool(stakes.live.any()) else 0):
            with torch.enable_grad():
                gate = Gate.of(alpha, settings.sigma)
                leaf = Gate(gate.openness.detach().requires_grad_(), gate.closure.detach().requires_grad_())
                terms = self._descend(leaf, loss, stakes, noise, settings)
                information = self.price(leaf).flatten(1).mean(1)
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
        gate, live = Gate.of(alpha.detach(), settings.sigma), stakes.live.view(-1, *[1] * (alpha.ndim - 1))
        gate = Gate(gate.openness.masked_fill(~live, 0), gate.closure.masked_fill(~live, 1))
        if not losses:
            return (
                gate,
                stakes.clean.new_full((self.rows, settings.steps), torch.nan),
                stakes.clean.new_zeros((self.rows, 1)),
            )
        return gate, torch.stack(losses, 1), torch.stack(capacity, 1)

    def stakes(self, settings: Settings) -> Stakes:
        """Of each row, whose noise is scored with at least 8 draws."""
        shut = torch.zeros((self.rows, *[1] * (self.features.ndim - 1)), device=self.features.device)
        clean = torch.cat([score.detach()[list(self.samples)] for score in self.seen.scores])
        noise = self._tried(Gate(shut, 1 - shut), self._fresh(settings), settings.at_once)
        return Stakes(clean, noise.mean(0), 2 * noise.std(0) / len(noise) ** 0.5, settings.upward, self.guide)

    def contributions(self, settings: Settings, levels: int = 8) -> Tensor:
        """What each cell adds to the score of each row on the way from noise to the features, smoothed, (r, *m).

        The integral over lambda in [0, 1] of sum_k dy/dZ_k (R_k - e_k) at Z = lambda R + (1 - lambda) e, as the mean of
        `levels` midpoints over `copies` of the noise: the sum over the cells is clean - noise. 0 where the noise
        changes nothing.
        """
        live, noise = self.stakes(settings).live, Noise(self._layers, settings.copies, self._dice(2))
        found = torch.zeros((self.rows, 1, *self.features.shape[2:]), device=self.features.device)
        for level in range(levels):
            openness = torch.full_like(found, (level + 0.5) / levels).requires_grad_()
            with torch.enable_grad():
                drawn = noise.drawn()
                for rows, scores in self._scores(Gate(openness, 1 - openness), drawn, settings.at_once):
                    (slope,) = torch.autograd.grad(scores[:, live[rows]].sum(), openness)
                    found += slope / (levels * settings.copies)
        return smooth(found, settings.sigma)[:, 0]

    @property
    def features(self) -> Features:
        """Those of the first layer."""
        return self.first.features

    def of_targets(self, rows: Tensor) -> Tensor:
        """(r, ...) as (t, n, ...)."""
        return rows.reshape(-1, len(self.samples), *rows.shape[1:])

    def price(self, gate: Gate) -> Tensor:
        """What each feature that the gate lets pass costs in the search, (r, k, *m)."""
        return self.nats(gate if self.known is None else gate.beyond(self.known))

    def nats(self, gate: Gate) -> Tensor:
        """KL of every feature, (r, k, *m)."""
        per_target = Gate(self.of_targets(gate.openness), self.of_targets(gate.closure))
        return (per_target.nats(self.first.deviation) * self.first.alive).flatten(0, 1)

    def openness(self, gate: Gate) -> Tensor:
        """The mean of lambda over the channels of each cell that are alive, (r, 1, *m)."""
        total = (self.of_targets(gate.openness) * self.first.alive).sum(2, keepdim=True)
        return (total / self.first.alive.sum(1, keepdim=True).clamp(min=1)).flatten(0, 1)

    def _dice(self, offset: int) -> torch.Generator:
        """The same draws in every search, so that searches differ by what is searched alone."""
        return torch.Generator(self.features.device).manual_seed(self.seed + offset)

    @property
    def _layers(self) -> tuple[NoisyLayer, ...]:
        return (self.first, *self.further)

    def _descend(self, leaf: Gate, loss: Loss, stakes: Stakes, noise: Noise, settings: Settings) -> Tensor:
        """The mean loss of each row, NaN where nothing can be searched; its gradient is left in the gate."""
        total = torch.zeros_like(stakes.clean).masked_fill(~stakes.live, torch.nan)
        through = leaf.inverted if self.inverse else leaf
        for rows, scores in self._scores(through, noise.drawn(), settings.at_once):
            block = stakes.of(rows)
            term = loss(scores[:, block.live], block.of(block.live)).sum(0) / settings.copies
            term.sum().backward()  # type: ignore[no-untyped-call]
            total[rows][block.live] += term.detach()
        return total

    def _scores(self, gate: Gate, drawn: Sequence[Tensor], at_once: int) -> Iterator[tuple[slice, Tensor]]:
        """What the gates let pass is scored, a block at a time: its rows, and (copies of the block, rows) scores."""
        n = len(self.samples)
        for targets in in_groups(len(self.seen.targets), at_once // n):
            rows = slice(targets.start * n, targets.stop * n)
            laid = Gate(self.of_targets(gate.openness[rows]), self.of_targets(gate.closure[rows]))
            copies = max(1, at_once // (n * len(targets)))
            for noise, *noises in zip(*(torch.split(one, copies) for one in drawn), strict=True):
                passed = self.first.passed(laid, self.features, noise).flatten(0, 2)
                with self._gated(laid, noises):
                    output = self.held(self.first.layer.layout.write(passed, self.held.activation))
                scores = [
                    self._asked(target, output, copy * len(targets) + place, len(passed))
                    for copy in range(len(noise))
                    for place, target in enumerate(targets)
                ]
                yield rows, torch.cat(scores).reshape(len(noise), -1)

    @contextmanager
    def _gated(self, gate: Gate, noises: Sequence[Tensor]) -> Iterator[None]:
        """Inside, every further layer emits what the gate lets pass of its features, each with its own noise."""
        with ExitStack() as hooks:
            for layer, noise in zip(self.further, noises, strict=True):
                passed = partial(self._passed, layer, self._laid(gate, layer), noise)
                hooks.enter_context(altered(self.seen.network, layer.layer, passed))
            yield

    def _passed(self, layer: NoisyLayer, gate: Gate, noise: Tensor, features: Features) -> Features:
        copies = features.reshape(len(noise), -1, len(self.samples), *features.shape[1:])
        return layer.passed(gate, copies, noise).flatten(0, 2)

    def _laid(self, gate: Gate, layer: NoisyLayer) -> Gate:
        """The gate on the cells of a further layer; those that look at no voxel of the image stay open."""
        shape = tuple(self.seen.images.shape[2:])
        source, goal = (one.layer.footprint or Footprint.of_image(shape) for one in (self.first, layer))
        closure = between(gate.closure.flatten(0, 1), source, goal, shape)
        closure = closure.reshape(*gate.closure.shape[:2], *closure.shape[1:])
        return Gate(1 - closure, closure)

    def _asked(self, target: int, output: Any, block: int, count: int) -> Tensor:
        """The scores (n) of one target, read from the answers block n to block n + n of `count`.

        A target speaks of the whole batch of the pass, so where only some of its images are held their answers stand in
        for the others, and are not read there.
        """
        n, batch = len(self.samples), len(self.seen.images)
        held = {sample: place for place, sample in enumerate(self.samples)}
        places = [block * n + held.get(sample, 0) for sample in range(batch)]
        whole = slice(block * n, block * n + n) if len(held) == batch else places

        def answers(leaf: Tensor) -> Tensor:
            return leaf[whole] if leaf.ndim and len(leaf) == count else leaf

        return self.seen.targets[target](tree_map_only(Tensor, answers, output))[list(self.samples)]

    def _fresh(self, settings: Settings) -> list[Tensor]:
        """Draws that no step of the search sees."""
        return Noise(self._layers, max(settings.copies, _DRAWS), self._dice(1)).drawn()

    def _tried(self, gate: Gate, drawn: Sequence[Tensor], at_once: int) -> Tensor:
        """The scores (draws, r) of what the gates let pass, without gradient."""
        found: dict[int, list[Tensor]] = {}
        with torch.no_grad():
            for rows, scores in self._scores(gate, drawn, at_once):
                found.setdefault(rows.start, []).append(scores)
        return torch.cat([torch.cat(blocks) for blocks in found.values()], 1)


def in_groups(count: int, size: int) -> list[range]:
    """The numbers below `count`, in runs of no more than `size`, but at least one."""
    size = max(1, size)
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
