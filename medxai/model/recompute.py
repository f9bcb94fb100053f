"""Activation checkpointing: parts of a network whose activations are made again in the backward pass."""

import torch


def made_again() -> bool:
    """Whether this runs in such a part, or, by torch.autograd.graph.saved_tensors_hooks, in anything alike.

    The parts of use_reentrant=True, which run without gradients the first time, are not known as such.
    """
    if not torch.is_grad_enabled():
        return False
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks("asked whether there are any"):
            return False
    except RuntimeError:
        return True
