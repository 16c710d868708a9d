"""`modulated_conv2d` of `training.networks_stylegan3` (SG3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ... import ops
from .._gradfix import gated
from . import conv2d_gradfix


def modulated_conv2d(
    x: torch.Tensor,
    w: torch.Tensor,
    s: torch.Tensor,
    demodulate: bool = True,
    padding: int | Sequence[int] = 0,
    input_gain: torch.Tensor | None = None,
) -> torch.Tensor:
    """`d * conv(input_gain * s * x, w)` with `d = (sum (s w)^2 + 1e-8)^-1/2`, 1 without demodulation: the gain is not demodulated away.

    Args:
        x: images `[N, I, H, W]`. w: `[O, I, K_h, K_w]`, correlated. s: styles `[N, I]`. padding: of the convolution.
        input_gain: factor of x, `[]`, `[I]`, `[N, 1]` or `[N, I]`; None for 1.

    Source: Karras et al. 2021 (arXiv:2106.12423), section 3.2 and appendix: features are divided by their running magnitude.
    """
    if input_gain is not None:
        x = x * input_gain.expand(x.shape[:2])[:, :, None, None].to(x.dtype)
    return ops.modulated_conv2d(x, gated(w, conv2d_gradfix), s, padding=padding, demodulate=demodulate)
