"""`modulated_conv2d` of `training.networks` (ADA) and `training.networks_stylegan2` (SG3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ... import ops
from .._gradfix import gated
from . import conv2d_gradfix


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    noise: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    resample_filter: torch.Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused_modconv: bool = True,
) -> torch.Tensor:
    """`d * conv(s * x, w) + noise` with `d = (sum (s w)^2 + 1e-8)^-1/2`: arguments as in `stylegan_ops.modulated_conv2d`.

    Other than theirs: fused_modconv changes nothing, since one dense convolution with the styles on x serves both; float16 is kept in range
    by powers of two, so that the numbers differ from theirs in the last place, and runs on the CPU, too.
    """
    weight = gated(weight, conv2d_gradfix)
    return ops.modulated_conv2d(x, weight, styles, noise, up, down, padding, resample_filter, demodulate, flip_weight)
