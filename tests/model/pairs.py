"""Chains whose neighbours answer together."""

import torch
from torch import nn

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MEAN = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


def block(ndim=2, affine=True, **convolution):
    torch.manual_seed(0)
    norm = NORM[ndim](6, affine=affine)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 3)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    settings = {"kernel_size": 3, "padding": 1} | convolution
    return nn.Sequential(CONVOLUTION[ndim](4, 6, **settings), norm, nn.ReLU()).eval().requires_grad_(False)


def transition(ndim=2, mean=None, **convolution):
    torch.manual_seed(0)
    return nn.Sequential(CONVOLUTION[ndim](4, 6, 1, **convolution), mean or MEAN[ndim](2), nn.ReLU()).eval()
