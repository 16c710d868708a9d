"""Normalisation of a feature vector by its second moment, as a module."""

from __future__ import annotations

import torch
from torch import nn

from ..ops import pixel_norm


class PixelNorm(nn.Module):
    """Scale every feature vector to unit mean square over its channels.

    `y = x / sqrt(mean_c(x^2) + eps)`, with the channels in dimension 1.

    Args:
        eps: added to the mean square.

    Source: Karras et al. 2018 (arXiv:1710.10196), section 4.2.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x` [N, C, ...]; returns its shape, dtype and layout."""
        return pixel_norm(x, dim=1, eps=self.eps)
