"""conv_epilogue: scale, noise, bias, leaky ReLU and gain behind a convolution, forward and backward, at [4, 128, 128, 128].

    python benchmarks/conv_epilogue.py [--threads 2] [--cold] [--json FILE]

The columns are those of benchmarks/bias_act.py.
"""

from __future__ import annotations

import functools

import harness
import torch

from stylegan_ops import conv_epilogue

SHAPE = (4, 128, 128, 128)


def cases() -> harness.Cases:
    n, c, h, w = SHAPE
    scale, noise, strength, bias = torch.randn(n, c), torch.randn(n, 1, h, w), torch.tensor(0.1), torch.randn(c)
    lrelu = functools.partial(conv_epilogue, act="lrelu")
    everything = (scale, noise, strength, bias)
    # Backward reads dy, the output (for the activation) and y (for the scale) and writes dx.
    return harness.memory_cases({"scale, noise, bias, lrelu": harness.MemoryBound(lrelu, everything, backward=4)}, SHAPE)


if __name__ == "__main__":
    harness.main(__doc__, cases)
