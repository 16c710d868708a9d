"""The low-pass filter of a layer or block that changes the resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..ops import downsample2d, setup_filter, upsample2d


class Resampling(nn.Module):
    """Base of every module that owns the filter of its up- and downsampling.

    Nearest-neighbour resampling leaves aliases; a binomial low-pass filter removes them (Zhang 2019, arXiv:1904.11486, taken over
    by Karras et al. 2019, arXiv:1812.04948, appendix C). A base class and not a child, so that the buffer is called
    `resample_filter` right beside the parameters, as in the checkpoints that users hold.

    Args:
        resample_filter: taps of the filter, one-dimensional (its outer product is used) or two-dimensional; normalised to sum 1.

    Buffers:
        resample_filter: [taps, taps] float32.
    """

    resample_filter: torch.Tensor

    def __init__(self, resample_filter: Sequence[float]) -> None:
        super().__init__()
        with torch.device("cpu"):  # where its values can be checked, so that a network can be built on the meta device
            taps = setup_filter(resample_filter)
        self.register_buffer("resample_filter", taps.to(torch.get_default_device()))

    def upsample(self, image: torch.Tensor) -> torch.Tensor:
        """Double the height and width of `image` [N, C, H, W], keeping its mean."""
        return upsample2d(image, self.resample_filter)

    def downsample(self, image: torch.Tensor) -> torch.Tensor:
        """Halve the height and width of `image` [N, C, H, W], keeping its mean."""
        return downsample2d(image, self.resample_filter)
