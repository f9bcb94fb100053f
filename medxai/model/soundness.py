"""Is what a network answers a property of the image: no batch statistics, no draws of chance, in full precision."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from medxai.errors import ModelError
from medxai.model.guard import bare, seeded, untouched
from medxai.shapes import Images

REPAIRS = "_repairs_of_weights"  # where load_model leaves its remarks on a network
_TOLERANCE = 1e-5  # of the largest output


def refuse_batch_statistics(model: nn.Module) -> None:
    """Raises ModelError for batch normalisation without running statistics: its answer depends on the batch."""
    for name, module in bare(model).named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ModelError(
                f"Layer {name!r} ({type(module).__name__}) keeps no running statistics.",
                expected="track_running_stats=True, so that an image is normalised by what training saw",
                found="statistics of the batch, which is one image here",
                remedy="Build the network with running statistics, and load those of its training.",
                code="X10",
            )


def about_repairs(model: nn.Module) -> tuple[str, ...]:
    """What was repaired when its weights were loaded."""
    known: tuple[str, ...] = vars(bare(model)).get(REPAIRS, ())
    return known


def about_precision(model: nn.Module) -> tuple[str, ...]:
    """A notice where weights are of another type than float32, in which every explanation is computed."""
    weights = (p for p in bare(model).parameters() if p.is_floating_point())
    others = sorted({str(p.dtype).removeprefix("torch.") for p in weights} - {"float32"})
    return (f"X20: the weights are {', '.join(others)}: computed in float32",) if others else ()


@contextmanager
def noticing_chance(model: nn.Module) -> Iterator[Callable[[], bool]]:
    """Inside, every pass of the network is watched; the function yielded says whether one drew random numbers."""
    drawn: list[bool] = []
    before: list[tuple[object, ...]] = []
    network = bare(model)
    entering = network.register_forward_pre_hook(lambda *_: before.append(_generators()))
    leaving = network.register_forward_hook(lambda *_: drawn.append(not _same(before.pop(), _generators())))
    try:
        yield lambda: any(drawn)
    finally:
        entering.remove()
        leaving.remove()


def about_chance(model: nn.Module, images: Images, permitted: bool) -> tuple[str, ...]:
    """A notice where two passes in eval mode, under other seeds, answer differently by more than 1e-5.

    Raises ModelError there unless that is permitted.
    """
    answers = []
    for seed in (0, 1):
        with untouched(model, images.device) as network, seeded(seed, images.device), _seeded_elsewhere(seed):
            answers.append([leaf for leaf in tree_leaves(network(images)) if isinstance(leaf, Tensor)])
    worst = max((_apart(a, b) for a, b in zip(*answers, strict=True)), default=0.0)
    if worst <= _TOLERANCE:
        return ()
    if not permitted:
        raise ModelError(
            "The network answers one image differently from pass to pass.",
            expected=f"the same output within {_TOLERANCE:g} of its largest value",
            found=f"a difference of {worst:.3g}",
            remedy="Switch off dropout and noise outside training, or permit one draw with allow_stochastic=True "
            "(--allow-stochastic).",
            code="X09",
        )
    return ("X09: the network draws random numbers: this is the map of one draw",)


def _apart(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape or not one.numel():
        return float(one.shape != other.shape)
    one, other = one.double(), other.double()
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-30))


@contextmanager
def _seeded_elsewhere(seed: int) -> Iterator[None]:
    """The generators of Python and NumPy, which a network may use too, seeded for the block."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _generators() -> tuple[object, ...]:
    _, keys, position, *_ = np.random.get_state()
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else torch.empty(0)  # type: ignore[no-untyped-call]
    return torch.get_rng_state(), cuda, np.asarray(keys).tobytes(), position, random.getstate()


def _same(before: tuple[object, ...], after: tuple[object, ...]) -> bool:
    return all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
        for a, b in zip(before, after, strict=True)
    )
