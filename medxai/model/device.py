"""Which device a model runs on."""

import torch

from medxai.errors import DeviceError


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name: `cpu`, `cuda`, `cuda:n`, or for `auto` the GPU where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    count = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(kind, 0)
    if (number and not number.isdigit()) or int(number or 0) >= count:
        usable = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise DeviceError("There is no such device here.", expected=f"one of {usable}", found=repr(name))
    return torch.device(name)
