"""`basicsr.ops.upfirdn2d` and `basicsr.ops.fused_act` of BasicSR, which GFPGAN and others use, on the ops of this package.

Change the imports to `from stylegan_ops.compat.basicsr import FusedLeakyReLU, fused_leaky_relu, upfirdn2d`, or `install()` before the archs
are imported. No environment variable and no build is needed. Other than theirs: the activation runs on the CPU, too; `upfirdn2d` also takes
pairs for up and down and four paddings, as rosinality's does, whose semantics it has.
"""

from __future__ import annotations

import sys

import torch

from ._install import Installer
from .rosinality.fused_act import FusedLeakyReLU as _FusedLeakyReLU
from .rosinality.fused_act import fused_leaky_relu as _fused_leaky_relu
from .rosinality.upfirdn2d import upfirdn2d

__all__ = ["FusedLeakyReLU", "fused_leaky_relu", "install", "uninstall", "upfirdn2d"]


def fused_leaky_relu(input: torch.Tensor, bias: torch.Tensor, negative_slope: float = 0.2, scale: float = 2**0.5) -> torch.Tensor:
    """`lrelu(input + bias) * scale`, the bias `[C]` along dimension 1. Differentiable to any order."""
    return _fused_leaky_relu(input, bias, negative_slope, scale)


class FusedLeakyReLU(_FusedLeakyReLU):
    """`fused_leaky_relu` with its bias `[channel]` as a parameter."""

    def __init__(self, channel: int, negative_slope: float = 0.2, scale: float = 2**0.5) -> None:
        super().__init__(channel, True, negative_slope, scale)


_installer = Installer("basicsr.ops", dict.fromkeys(("fused_act", "upfirdn2d"), sys.modules[__name__]))


def install() -> None:
    """Puts this module into `sys.modules` as `basicsr.ops.fused_act` and `basicsr.ops.upfirdn2d`. A second time without effect."""
    _installer.install()


def uninstall() -> None:
    """Puts back what `install` exchanged. Code that was imported in between keeps what it got."""
    _installer.uninstall()
