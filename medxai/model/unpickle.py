"""Run as a process of its own: open a weights file that runs code, confined, and leave its tensors behind.

python -m medxai.model.unpickle SOURCE FOLDER MEMORY SECONDS writes FOLDER/weights.safetensors, and FOLDER/said.json
with what confined it or what went wrong. The caller believes neither more than it can check.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from medxai.model.jail import confine


def main(source: Path, folder: Path, memory: int, seconds: int) -> None:
    """Confine this process, then open `source`."""
    said = folder / "said.json"
    try:
        means = confine(folder, memory, seconds)
    except OSError as error:
        said.write_text(json.dumps({"open": str(error)}))
        raise SystemExit(1) from error
    try:
        said.write_text(json.dumps({"means": means}))
        _convert(source, folder / "weights.safetensors")
    except BaseException as error:
        said.write_text(json.dumps({"problem": f"{type(error).__name__}: {error}"[:500]}))
        raise SystemExit(1) from error


def _convert(source: Path, target: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from medxai.model.weights import is_torchscript, tensors_of

    if is_torchscript(source):
        load: Callable[..., object] = torch.jit.load
        loaded = load(source, map_location="cpu")
    else:
        loaded = torch.load(source, map_location="cpu", weights_only=False)
    state = loaded.state_dict() if isinstance(loaded, torch.nn.Module) else tensors_of(loaded, source)
    save_file({name: value.detach().clone().contiguous() for name, value in state.items()}, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
