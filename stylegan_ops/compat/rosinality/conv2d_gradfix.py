"""`op.conv2d_gradfix`: as `stylegan_ops.compat.nvlabs.conv2d_gradfix`, with this family's default of `enabled` and switches of its own."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F

from .._gradfix import gated, weight_gradients_off

enabled = True  # changes nothing; theirs warns on every call where torch is newer than 1.8
weight_gradients_disabled = False
_self = sys.modules[__name__]


def no_weight_gradients(disable: bool = True) -> AbstractContextManager[None]:
    """No weight of the convolutions of this module gets a gradient from a derivative taken inside the `with` block."""
    return weight_gradients_off(_self, disable)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> torch.Tensor:
    """`torch.nn.functional.conv2d`."""
    return F.conv2d(input, gated(weight, _self), bias, stride, padding, dilation, groups)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1) -> torch.Tensor:
    """`torch.nn.functional.conv_transpose2d`."""
    return F.conv_transpose2d(input, gated(weight, _self), bias, stride, padding, output_padding, groups, dilation)
