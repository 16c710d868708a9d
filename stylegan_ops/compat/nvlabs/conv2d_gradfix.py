"""`torch_utils.ops.conv2d_gradfix`: torch's convolutions, differentiable to any order, with weight gradients that can be switched off.

Other than theirs: `enabled` changes nothing, since torch differentiates its convolutions twice by itself, and nothing warns on any version;
`no_weight_gradients` takes effect whatever `enabled` is, on every device.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F

from .._gradfix import gated, weight_gradients_off

enabled = False  # training scripts assign it
weight_gradients_disabled = False
_self = sys.modules[__name__]


def no_weight_gradients(disable: bool = True) -> AbstractContextManager[None]:
    """No weight of the convolutions of this package gets a gradient from a derivative taken inside the `with` block.

    For R1 and path-length penalties, which differentiate by images or styles first. The derivative of that derivative, taken outside, has
    its weight gradients.
    """
    return weight_gradients_off(_self, disable)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> torch.Tensor:
    """`torch.nn.functional.conv2d`."""
    return F.conv2d(input, gated(weight, _self), bias, stride, padding, dilation, groups)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1) -> torch.Tensor:
    """`torch.nn.functional.conv_transpose2d`."""
    return F.conv_transpose2d(input, gated(weight, _self), bias, stride, padding, output_padding, groups, dilation)
