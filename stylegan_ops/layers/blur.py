"""A fixed low-pass filter at one resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..ops import filter2d
from .resampling import Resampling


class Blur(Resampling):
    """Filter every feature map, size kept, with zeros outside the image.

    Args:
        taps: of the filter, an odd number; its outer product is used, normalised to sum 1.

    Buffers:
        resample_filter: [taps, taps] float32.

    Raises:
        ValueError: the number of taps is even: the image would move by half a pixel.

    Source: Karras et al. 2019 (arXiv:1812.04948), section 2, after Zhang 2019 (arXiv:1904.11486).
    """

    def __init__(self, taps: Sequence[float] = (1, 2, 1)) -> None:
        super().__init__(taps)
        if len(self.resample_filter) % 2 == 0:
            raise ValueError(f"Blur: taps must be an odd number of taps (got {len(self.resample_filter)})")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [N, C, H, W] -> the same shape, dtype and layout."""
        return filter2d(x, self.resample_filter)
