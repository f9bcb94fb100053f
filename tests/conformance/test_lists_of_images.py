"""A list of images is refused by a sentence, by every method: run outside this process, whose types are checked."""

import subprocess
import sys

SCRIPT = """
import torch
from torch import nn

from medxai import ClassScore
from medxai.attribution.meta import MetaSaliency
from medxai.attribution.gradient_cams import GradCAM
from medxai.attribution.tiled import Tiled
from medxai.catalog import methods
from medxai.errors import UsageError

network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
every = {name: made() for name, made in methods().items()}
every |= {"MetaSaliency": MetaSaliency(method=GradCAM()), "Tiled": Tiled(method=GradCAM(), window=(8, 8))}
for name, method in every.items():
    try:
        method(network, [torch.rand(1, 8, 8)] * 2, ClassScore(0))
    except UsageError as problem:
        assert "one tensor (n, channel, *space)" in str(problem), (name, str(problem))
    else:
        raise SystemExit(f"{name} took a list")
print(len(every))
"""


def test_every_method_says_what_it_wants():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 36
