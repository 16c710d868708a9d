"""LPIPS: the perceptual distance of two images."""

from __future__ import annotations

import torch
from torch import nn

from .vgg16 import VGG16, VGG16Weights


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity over VGG16, version 0.1.

    d(x, y) = sum_l 1 / (H_l W_l) sum_hw w_l . (x^l_hw - y^l_hw)^2,   x^l_hw = f^l_hw / (||f^l_hw||_2 + 1e-10)

    f^l are the features relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, w_l >= 0 the learned weights of their channels. It is 0 for equal
    images and symmetric.

    Args:
        weights: of `load_vgg16`.

    Source: Zhang et al. 2018 (arXiv:1801.03924), section 3, equation 1.
    """

    def __init__(self, weights: VGG16Weights) -> None:
        super().__init__()
        self.vgg16 = VGG16(weights)
        for i, head in enumerate(weights.heads):
            self.register_buffer(f"head{i}", head)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compute the distances of pairs.

        Args:
            x, y: [N, 1 or 3, H, W], nominal range [-1, 1], at least 16x16 pixels.

        Returns:
            [N], the dtype of the features (float32). Differentiable with respect to the images.

        Raises:
            ValueError: an argument has another shape, or their shapes differ.
        """
        if x.shape != y.shape:
            raise ValueError(f"LPIPS: x and y must have one shape (got {tuple(x.shape)} and {tuple(y.shape)})")
        distance = 0
        for i, features in enumerate(self.vgg16(torch.cat([x, y]))):
            first, second = (features / (features.norm(dim=1, keepdim=True) + 1e-10)).chunk(2)
            distance = distance + torch.einsum("nchw,c->nhw", (first - second).square(), getattr(self, f"head{i}")).mean(dim=(1, 2))
        return distance
