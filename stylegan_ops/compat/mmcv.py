"""The StyleGAN ops of `mmcv.ops` (mmcv 2), by its names for the arguments, on the ops of this package; mmagic uses them.

Change `from mmcv.ops import ...` to `from stylegan_ops.compat.mmcv import ...`, or `install()`, also where mmcv has no compiled ops.

Two numbers for a padding mean `[x, y]`, as in NVIDIA's functions, although mmagic's `Blur` and `DownsampleUpFIRDn` mean (before, after):
the same only where both are equal, as theirs are with the filter [1, 3, 3, 1]. What mmcv 1 calls `upfirdn2d(input, kernel, up, down, pad)`
is the function of `stylegan_ops.compat.rosinality`.

Everywhere: `use_custom_op=False` is plain PyTorch; bfloat16, layouts of any kind and derivatives of any order work, and nothing warns;
mistakes are ValueError and TypeError.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import sqrt

import torch
from torch import nn

from .. import ops
from ._install import Installer
from .nvlabs import conv2d_gradfix
from .nvlabs.conv2d_gradfix import conv2d, conv_transpose2d

Pixels = int | Sequence[int]


def _impl(use_custom_op: bool) -> str | None:
    return None if use_custom_op else "reference"


def bias_act(
    input: torch.Tensor,
    bias: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """`clamp(act(input + bias) * gain, -clamp, clamp)`, as `stylegan_ops.bias_act`; edges as in `stylegan_ops.compat.nvlabs`."""
    return ops.bias_act(input, bias, dim, act, alpha, gain, clamp, impl=_impl(use_custom_op))


def upfirdn2d(
    input: torch.Tensor,
    filter: torch.Tensor | None,
    up: Pixels = 1,
    down: Pixels = 1,
    padding: Pixels = 0,
    flip_filter: bool = False,
    gain: float = 1,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """Zero-insert, pad or crop (one number, `[x, y]` or `[x0, x1, y0, y1]`), filter, keep every n-th pixel: `stylegan_ops.upfirdn2d`."""
    return ops.upfirdn2d(input, filter, up, down, padding, flip_filter, gain, impl=_impl(use_custom_op))


def filter2d(
    input: torch.Tensor,
    filter: torch.Tensor | None,
    padding: Pixels = 0,
    flip_filter: bool = False,
    gain: float = 1,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """`stylegan_ops.filter2d`."""
    return ops.filter2d(input, filter, padding, flip_filter, gain, impl=_impl(use_custom_op))


def upsample2d(
    input: torch.Tensor,
    filter: torch.Tensor | None,
    up: Pixels = 2,
    padding: Pixels = 0,
    flip_filter: bool = False,
    gain: float = 1,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """`stylegan_ops.upsample2d`."""
    return ops.upsample2d(input, filter, up, padding, flip_filter, gain, impl=_impl(use_custom_op))


def downsample2d(
    input: torch.Tensor,
    filter: torch.Tensor | None,
    down: Pixels = 2,
    padding: Pixels = 0,
    flip_filter: bool = False,
    gain: float = 1,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """`stylegan_ops.downsample2d`; in `mmcv.ops.upfirdn2d`, as theirs, and not in `mmcv.ops`."""
    return ops.downsample2d(input, filter, down, padding, flip_filter, gain, impl=_impl(use_custom_op))


def filtered_lrelu(
    input: torch.Tensor,
    filter_up: torch.Tensor | None = None,
    filter_down: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Pixels = 0,
    gain: float = sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
    use_custom_op: bool = True,
) -> torch.Tensor:
    """Bias, upsampling, leaky ReLU times gain with clamp, downsampling: `stylegan_ops.compat.nvlabs.filtered_lrelu`."""
    choice = _impl(use_custom_op)
    return ops.filtered_lrelu(input, filter_up, filter_down, bias, up, down, padding, gain, slope, clamp, flip_filter, impl=choice)


def fused_bias_leakyrelu(input: torch.Tensor, bias: torch.Tensor, negative_slope: float = 0.2, scale: float = 2**0.5) -> torch.Tensor:
    """`lrelu(input + bias) * scale`, the bias `[C]` along dimension 1."""
    return ops.bias_act(input, bias, act="lrelu", alpha=negative_slope, gain=scale)


class FusedBiasLeakyReLU(nn.Module):
    """`fused_bias_leakyrelu` with its bias `[num_channels]` as a parameter."""

    def __init__(self, num_channels: int, negative_slope: float = 0.2, scale: float = 2**0.5) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.negative_slope = negative_slope
        self.scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`input` [N, C, ...] -> the same shape, dtype and layout."""
        return fused_bias_leakyrelu(input, self.bias, self.negative_slope, self.scale)


_EXPORTED = (bias_act, conv2d, conv_transpose2d, filter2d, filtered_lrelu, fused_bias_leakyrelu, FusedBiasLeakyReLU, upfirdn2d, upsample2d)
_MODULES = dict.fromkeys(("bias_act", "filtered_lrelu", "fused_bias_leakyrelu", "upfirdn2d"), sys.modules[__name__])
_installer = Installer("mmcv.ops", _MODULES | {"conv2d_gradfix": conv2d_gradfix}, {f.__name__: f for f in _EXPORTED})


def install() -> None:
    """Puts these functions into `mmcv.ops`, whose others stay, and exchanges what was imported from there. A second time without effect."""
    _installer.install()


def uninstall() -> None:
    """Puts back what `install` exchanged. Code that was imported in between keeps what it got."""
    _installer.uninstall()
