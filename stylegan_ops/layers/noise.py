"""Noise added to feature maps."""

from __future__ import annotations

import torch
from torch import nn

from ._checks import check_choice, check_positive_int, check_shape
from .modulated import NOISE_MODES


class NoiseInjection(nn.Module):
    """Add one picture of noise to all feature maps, with a learned strength for each.

    `y_nchw = x_nchw + strength_c noise_nhw`, noise ~ N(0, 1). The strengths start at zero: the network decides where it wants noise.

    Args:
        channels: C.
        resolution: height and width of the feature maps, pixels.

    Parameters:
        strength: [C].

    Buffers:
        noise_const: [resolution, resolution], the noise of `noise_mode="const"`.

    Raises:
        ValueError, TypeError: a size is no integer of at least 1.

    Source: Karras et al. 2019 (arXiv:1812.04948), section 2 and figure 1b (B).
    """

    noise_const: torch.Tensor

    def __init__(self, channels: int, resolution: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(check_positive_int("NoiseInjection", "channels", channels)))
        resolution = check_positive_int("NoiseInjection", "resolution", resolution)
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def draw(self, count: int, noise_mode: str) -> torch.Tensor | None:
        """The noise of `count` samples: [count, 1, H, W] for "random", [H, W] for "const", None for "none".

        Raises:
            ValueError: `noise_mode` is none of the three.
        """
        check_choice("NoiseInjection", "noise_mode", noise_mode, NOISE_MODES)
        if noise_mode == "random":
            like = self.noise_const
            return torch.randn(count, 1, *like.shape, device=like.device, dtype=like.dtype)
        return self.noise_const if noise_mode == "const" else None

    def forward(self, x: torch.Tensor, noise_mode: str = "random") -> torch.Tensor:
        """`x` [N, C, resolution, resolution] -> the same shape and dtype.

        Raises:
            ValueError, TypeError: `x` or `noise_mode` is outside these rules.
        """
        shape = (len(self.strength), *self.noise_const.shape)
        check_shape("NoiseInjection", "x", x, (None, *shape), f"[N, {shape[0]}, {shape[1]}, {shape[2]}]")
        noise = self.draw(x.shape[0], noise_mode)
        return x if noise is None else (x + self.strength[:, None, None] * noise).to(x.dtype)
