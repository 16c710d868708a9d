"""Minibatch standard deviation: lets a discriminator see how varied a batch is."""

from __future__ import annotations

import torch
from torch import nn

from ._checks import check_positive_int


class MinibatchStddev(nn.Module):
    """Append to every sample how much its group of the batch varies.

    1. Split the batch into groups of G, the largest number up to `group_size` that divides N.
    2. Standard deviation over each group, for every channel and pixel: `sqrt(mean_g((x - mean_g(x))^2) + 1e-8)`.
    3. Average over space and over the channels of each of the `num_channels` equal splits of C.
    4. Append the averages as constant feature maps to every member of the group.

    Sample i belongs to group `i mod (N / G)`: processes that take strided slices of one batch form the groups that a single
    process would, as long as G divides each slice.

    Args:
        group_size: largest number of samples in a group.
        num_channels: number of feature maps appended; it must divide C.

    Raises:
        ValueError: an argument is below 1, or C is not a multiple of `num_channels`.

    Source: Karras et al. 2018 (arXiv:1710.10196), section 3.
    """

    def __init__(self, group_size: int = 4, num_channels: int = 1) -> None:
        super().__init__()
        self.group_size = check_positive_int("MinibatchStddev", "group_size", group_size)
        self.num_channels = check_positive_int("MinibatchStddev", "num_channels", num_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [N, C, H, W] -> [N, C + num_channels, H, W], in the dtype and layout of `x`; statistics in float32 at least."""
        n, c, h, w = x.shape
        maps = self.num_channels
        if c % maps:
            raise ValueError(f"MinibatchStddev: x must have a multiple of num_channels={maps} channels (got {c})")
        group = self.group_size
        while n % group:  # ends at 1 at the latest
            group -= 1
        groups = n // group

        y = x.to(torch.promote_types(x.dtype, torch.float32))
        y = y.reshape(group, groups, maps, c // maps, h, w)
        y = (y - y.mean(0)).square().mean(0)
        y = (y + 1e-8).sqrt().mean([2, 3, 4])  # [groups, maps]

        y = y.to(x.dtype).repeat(group, 1)[:, :, None, None].expand(n, maps, h, w)
        if x.is_contiguous(memory_format=torch.channels_last):  # cat falls back to NCHW when its inputs' layouts differ
            y = y.contiguous(memory_format=torch.channels_last)
        return torch.cat([x, y], dim=1)
