"""`torch_utils.ops.conv2d_resample`: a convolution with up- and downsampling, each in the cheapest of its equivalent orders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ... import ops
from ...ops.upfirdn2d import down_padding, four_paddings, up_padding, upfirdn2d
from .._gradfix import gated
from . import conv2d_gradfix


def conv2d_resample(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> torch.Tensor:
    """Upsamples x by `up` with f, amplitude kept, convolves with w, and downsamples by `down` with f.

    Args:
        x: images `[N, I, H, W]`. w: `[O, I / groups, K_h, K_w]` of x's dtype. f: filter of `setup_filter`, None for the identity.
        padding: as for the convolution alone, in pixels of the upsampled image; the filter's own share is added.
        flip_weight, flip_filter: True is correlation, False convolution.

    Other than theirs: mistakes are ValueError and TypeError, not AssertionError. Differentiable to any order in x and w.
    """
    if w.dtype != x.dtype:
        raise TypeError(f"conv2d_resample: w must be of x's dtype, {x.dtype} (got {w.dtype})")
    f = f.flip(list(range(f.ndim))) if flip_filter and f is not None else f
    if groups == 1 and (up == 1 or down == 1):
        w = gated(w, conv2d_gradfix)
        return ops.modulated_conv2d(x, w, None, up=up, down=down, padding=padding, resample_filter=f, flip_weight=flip_weight)

    padding = four_paddings("conv2d_resample", padding)
    padding = up_padding(padding, f, (up, up)) if up > 1 else padding
    padding = down_padding(padding, f, (down, down)) if down > 1 else padding
    left, right, top, bottom = padding
    ky, kx = w.shape[2:]
    if up > 1 and down == 1 and (ky > 1 or kx > 1):
        x = _transposed(x, w.flip([2, 3]) if flip_weight else w, up, groups)
        return upfirdn2d(x, f, padding=[left - kx + 1, right - kx + up, top - ky + 1, bottom - ky + up], gain=up**2)
    w = w if flip_weight else w.flip([2, 3])
    if up > 1 and down == 1:
        return upfirdn2d(conv2d_gradfix.conv2d(x, w, groups=groups), f, up=up, padding=padding, gain=up**2)
    if up > 1:
        x = upfirdn2d(x, f, up=up, padding=padding, gain=up**2)
        return upfirdn2d(conv2d_gradfix.conv2d(x, w, groups=groups), f, down=down)
    if down > 1:
        early = down if ky == kx == 1 else 1  # a single tap sees no other pixels
        x = upfirdn2d(x, f, down=early, padding=padding)
        return conv2d_gradfix.conv2d(x, w, stride=down // early, groups=groups)
    if left != right or top != bottom or min(padding) < 0:
        x, left, top = F.pad(x, [left, right, top, bottom]), 0, 0
    return conv2d_gradfix.conv2d(x, w, padding=[top, left], groups=groups)


def _transposed(x: torch.Tensor, w: torch.Tensor, stride: int, groups: int) -> torch.Tensor:
    """The transposed convolution with w `[O, I / groups, K_h, K_w]`, which torch takes as `[I, O / groups, K_h, K_w]`."""
    w = w.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return conv2d_gradfix.conv_transpose2d(x, w, stride=stride, groups=groups)
