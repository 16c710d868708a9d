"""`torch_utils.ops.filtered_lrelu` of the SG3 generation."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch

from ... import ops
from ._impl import implementation

_inited = True  # the kernels are compiled on installation; code that looks here finds nothing left to do
_plugin = None


def _init() -> bool:
    return True


def filtered_lrelu(
    x: torch.Tensor,
    fu: torch.Tensor | None = None,
    fd: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    gain: float = sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
    impl: str = "cuda",
) -> torch.Tensor:
    """Bias, upsampling with fu, leaky ReLU times gain with clamp, filter fd and downsampling: `stylegan_ops.filtered_lrelu`.

    Args:
        x: images `[N, C, H, W]`. fu, fd: filters `[K]` or `[K_h, K_w]`, None for the identity. b: bias `[C]`.
        up, down: factors. padding: in pixels of the upsampled image, as in `upfirdn2d`.
        gain, slope, clamp: of the leaky ReLU; clamp None for no bound. flip_filter: True is correlation, for both filters.
        impl: `"cuda"` is the fastest here on every device, `"ref"` plain PyTorch.

    Other than theirs: float64, bfloat16, channels_last and every size run on the same path, nothing warns, and derivatives go to any order;
    at the clamp and for NaN as in `bias_act`.
    Source: Karras et al. 2021, "Alias-Free Generative Adversarial Networks" (arXiv:2106.12423), section 3.2.
    """
    choice = implementation("filtered_lrelu", impl)
    return ops.filtered_lrelu(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter, impl=choice)
