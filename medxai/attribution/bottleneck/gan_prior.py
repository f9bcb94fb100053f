"""The prior of a bottleneck on an image as a small GAN learns it: the pixels that make the features which pass a layer.

The generator emits x' = g x + (1 - g) (m + s e), e ~ N(0, 1), with a gate g for each pixel and a mean m and a scale s
for each channel. A critic tells the features that the network makes of x' from those that a bottleneck at the layer
lets pass, Z = lambda R + (1 - lambda) n; where it cannot, g says which pixels the bottleneck has kept.
Sources: Zhang et al. 2021, Fine-grained neural network explanation by identifying input features with predictive
information; Arjovsky et al. 2017, Wasserstein GAN (whose critic has its weights clipped).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medxai.attribution.bottleneck.gate import Gate
from medxai.attribution.bottleneck.noisy import NoisyLayer
from medxai.attribution.bottleneck.search import Bottleneck, in_groups
from medxai.attribution.passes import Pass
from medxai.errors import UsageError
from medxai.model.alter import altered
from medxai.model.guard import seeded
from medxai.shapes import Features, Images

_HIDDEN, _MARGIN = 16, 1e-3


@dataclass(frozen=True, eq=False, slots=True)
class Generator:
    """One image, alpha (1, 1, *s) of the gate of each pixel, mean and scale (1, c, 1, 1) of the noise behind it."""

    image: Images
    alpha: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, image: NoisyLayer, openness: Tensor) -> "Generator":
        """Of these opennesses, with the image's own noise."""
        noise = (part.mean((2, 3), keepdim=True).requires_grad_() for part in (image.mean, image.std))
        return cls(image.features, torch.logit(openness, _MARGIN).requires_grad_(), *noise)

    def __call__(self, count: int, dice: torch.Generator) -> Images:
        """So many draws of x'."""
        gate = torch.sigmoid(self.alpha)
        drawn = torch.randn((count, *self.image.shape[1:]), generator=dice, device=self.image.device)
        return gate * self.image + (1 - gate) * (self.mean + self.scale * drawn)


@dataclass(frozen=True, kw_only=True)
class GanPrior:
    """A Wasserstein GAN for each target of each image: RMSprop, `steps` of the generator, `critic_steps` before each.

    Each step draws `batch` of both. `rate` is that of alpha, a tenth of it that of mean and scale; `critic_rate` that
    of the critic, whose weights stay within `clip`. Published: batches of 32 for 20 epochs of 200 samples; rates 0.003
    for the gate and 5e-5 for a critic of three convolutions.
    """

    steps: int = 40
    critic_steps: int = 3
    batch: int = 16
    rate: float = 0.1
    critic_rate: float = 1e-3
    clip: float = 0.01

    def __post_init__(self) -> None:
        above = (self.critic_steps, self.batch, self.rate, self.critic_rate, self.clip)
        if self.steps < 0 or not all(value > 0 for value in above):
            raise UsageError(
                "These settings describe no training.",
                expected="at least 0 steps, and the others above 0",
                found=repr(self),
            )

    def refined(self, neck: Bottleneck, gate: Gate, openness: Tensor, image: NoisyLayer, at_once: int) -> Tensor:
        """The opennesses (r, 1, *s) of the pixels, from those where the cells of each row's gate look.

        A shut gate lets nothing pass that could be learned: its row stays as it is. No more than `at_once` draws are in
        the network at a time.
        """
        rows = []
        for row, start in enumerate(torch.split(openness, 1)):
            sample = row % len(neck.samples)
            one = range(sample, sample + 1)
            own = Gate(gate.openness[row : row + 1], gate.closure[row : row + 1])
            if not bool(own.openness.any()):
                rows.append(start)
                continue
            generator = Generator.of(image.among(one), start)
            self.train(generator, neck.first.among(one), own, neck.seen, neck.seed, at_once)
            rows.append(torch.sigmoid(generator.alpha.detach()))
        return torch.cat(rows)

    def train(
        self, generator: Generator, layer: NoisyLayer, gate: Gate, seen: Pass, seed: int, at_once: int = 16
    ) -> None:
        """Change the generator until the critic cannot tell its features from what passes the gate at the layer."""
        device = layer.features.device
        with seeded(seed, device):
            critic = _critic(layer.features)
        dice = torch.Generator(device).manual_seed(seed)
        judge = torch.optim.RMSprop(critic.parameters(), self.critic_rate)
        maker = torch.optim.RMSprop([generator.alpha], self.rate)
        maker.add_param_group({"params": [generator.mean, generator.scale], "lr": self.rate / 10})
        counts = [len(some) for some in in_groups(self.batch, at_once)]

        def judged(features: Features) -> Tensor:
            """The share in the mean verdict on a batch; what is dead passes no gate, so nothing may be read there."""
            verdict: Tensor = critic((features - layer.mean) / layer.std * layer.alive)
            return verdict.sum() / self.batch

        def made(count: int) -> Features:
            return features_of(generator(count, dice), layer, seen)

        def real(count: int) -> Features:
            return layer.passed(gate, layer.features, layer.draw(count, dice)).flatten(0, 2)

        shown = torch.no_grad()(made)
        for _ in range(self.steps):
            for _ in range(self.critic_steps):
                _descend(judge, (judged(shown(count)) - judged(real(count)) for count in counts))
                for weight in critic.parameters():
                    weight.data.clamp_(-self.clip, self.clip)
            _descend(maker, (-judged(made(count)) for count in counts))


def features_of(images: Images, layer: NoisyLayer, seen: Pass) -> Features:
    """What the layer emits for other images than those of the pass."""
    emitted = list[Tensor]()

    def note(features: Features) -> Features:
        emitted.append(features)
        return features

    with altered(seen.network, layer.layer, note):
        seen.network(images)
    return emitted[0]


def refuse_volumes(images: Images) -> None:
    """Raises UsageError for what is no image in 2D."""
    if images.ndim != 4:
        raise UsageError(
            "The GAN that learns a prior is for images in 2D.",
            expected="(b, c, rows, columns): it runs the network on hundreds of batches for each target, and has never "
            "been shown to learn from a single volume",
            found=f"{tuple(images.shape)}",
            remedy="Use prior='latent'.",
        )


def _critic(features: Features) -> nn.Module:
    """Reads normalised features with their places."""
    channels, cells = features.shape[1], features[0, 0].numel()
    return nn.Sequential(
        nn.Conv2d(channels, _HIDDEN, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(_HIDDEN * cells, _HIDDEN),
        nn.LeakyReLU(0.2),
        nn.Linear(_HIDDEN, 1),
    ).to(features.device)


def _descend(optimiser: torch.optim.Optimizer, losses: Iterable[Tensor]) -> None:
    """One step on the sum of the losses, each let go of before the next is computed."""
    optimiser.zero_grad()
    with torch.enable_grad():
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
