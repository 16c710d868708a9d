"""`op.fused_act`: bias, leaky ReLU and scale."""

from __future__ import annotations

import torch
from torch import nn

from ... import ops


def fused_leaky_relu(
    input: torch.Tensor, bias: torch.Tensor | None = None, negative_slope: float = 0.2, scale: float = 2**0.5
) -> torch.Tensor:
    """`lrelu(input + bias) * scale`, the bias `[C]` along dimension 1 of an input of 2 or more dimensions.

    Other than theirs: negative_slope counts on the CPU, too, where theirs always takes 0.2; with the default the numbers are the same.
    bfloat16 works everywhere. Differentiable to any order.
    """
    return ops.bias_act(input, bias, act="lrelu", alpha=negative_slope, gain=scale)


class FusedLeakyReLU(nn.Module):
    """`fused_leaky_relu` with its bias as a parameter.

    Args:
        channel: C. bias: False for none. negative_slope, scale: as there.

    Parameters:
        bias: [C].
    """

    def __init__(self, channel: int, bias: bool = True, negative_slope: float = 0.2, scale: float = 2**0.5) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channel)) if bias else None
        self.negative_slope = negative_slope
        self.scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`input` [N, C, ...] -> the same shape, dtype and layout."""
        return fused_leaky_relu(input, self.bias, self.negative_slope, self.scale)
