"""bias_act: forward and backward of every activation at [4, 128, 128, 128].

    python benchmarks/bias_act.py [--threads 2] [--cold] [--only lrelu] [--json FILE]

Per row: median of the native op, GB/s of what it has to read and write, GB/s of `y.copy_(x)` on as many bytes in the same rounds, the
share of the one in the other, the reference's median and its ratio to the native one. Goal: 70 % of the copy in float32.
"""

from __future__ import annotations

import functools

import harness
import torch

from stylegan_ops import bias_act
from stylegan_ops.ops.bias_act import ACTIVATIONS

SHAPE = (4, 128, 128, 128)


def cases() -> harness.Cases:
    b = torch.randn(SHAPE[1])
    return harness.memory_cases(
        # The derivative of the linear op is a function of nothing: dy in, dx out.
        {act: harness.MemoryBound(functools.partial(bias_act, act=act), (b,), backward=2 if act == "linear" else 3) for act in ACTIVATIONS},
        SHAPE,
    )


if __name__ == "__main__":
    harness.main(__doc__, cases)
