"""What the reference tests share."""

from contextlib import contextmanager

from torch import nn


def relative(a, b):
    return float(((a - b).abs().max() / b.abs().max()).detach())


def out_of_place(model):
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


@contextmanager
def seen_batches(model, keep=False):
    """The sizes of the batches that the model received, or the batches themselves."""
    seen = []
    handle = model.register_forward_pre_hook(lambda _module, args: seen.append(args[0] if keep else len(args[0])))
    try:
        yield seen
    finally:
        handle.remove()
