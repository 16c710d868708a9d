"""What the networks of all families share: their widths, their arguments as plain values, and the judgement of labelled images."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..layers._checks import check_positive_int


def channels_of(owner: str, img_resolution: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """Number of feature maps at every resolution from 4x4 to the image's: inversely proportional to it, with a ceiling."""
    img_resolution = check_positive_int(owner, "img_resolution", img_resolution)
    channel_base = check_positive_int(owner, "channel_base", channel_base)
    channel_max = check_positive_int(owner, "channel_max", channel_max)
    if img_resolution < 4 or img_resolution & (img_resolution - 1):
        raise ValueError(f"{owner}: img_resolution must be a power of two of at least 4 (got {img_resolution})")
    if channel_base < img_resolution:
        raise ValueError(f"{owner}: channel_base must be at least img_resolution={img_resolution} (got {channel_base})")
    resolutions = [2**i for i in range(2, img_resolution.bit_length())]
    return {r: min(channel_base // r, channel_max) for r in resolutions}


def plain(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a network as JSON knows them: numpy's numbers, tuples and tensors become Python's numbers and lists."""
    simple = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in kwargs.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in simple.items()}


def project(features: torch.Tensor, cmap: torch.Tensor) -> torch.Tensor:
    """`sum_i(features_i cmap_i) / sqrt(len(cmap))`: logits [N, 1] of features and mapped labels [N, cmap_dim].

    Source: Miyato and Koyama 2018 (arXiv:1802.05637), section 3.
    """
    return (features * cmap).sum(dim=1, keepdim=True) / math.sqrt(cmap.shape[1])
