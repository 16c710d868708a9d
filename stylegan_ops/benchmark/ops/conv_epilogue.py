"""conv_epilogue: scale, noise, bias, leaky ReLU and gain behind a convolution, forward and backward."""

from __future__ import annotations

import functools

import torch

from stylegan_ops import conv_epilogue

from .. import baseline
from ..cases import SHAPE, Case, MemoryBound, Options, memory_cases


def cases(options: Options) -> list[Case]:
    n, c, h, w = SHAPE
    parameters = (torch.randn(n, c), torch.randn(n, 1, h, w), torch.tensor(0.1), torch.randn(c))
    # Backward reads dy, the output (for the activation) and y (for the scale) and writes dx; beside dx it makes four sums.
    v = MemoryBound(functools.partial(conv_epilogue, act="lrelu"), baseline.conv_epilogue, parameters, (2, 4), (5, 7))
    return memory_cases(options, "conv_epilogue", {"scale, noise, bias, lrelu": v})
