"""upfirdn2d: up 2, down 2 and filter with the taps 1 3 3 1 at [4, 128, 128, 128], forward and backward.

    python benchmarks/upfirdn2d.py [--threads 2] [--cold] [--only "up 2"] [--json FILE]

The columns are those of benchmarks/bias_act.py; the bytes are those of the input and the output. Goal: 40 % of the copy in float32.
"""

from __future__ import annotations

import functools

import harness

from stylegan_ops import downsample2d, filter2d, setup_filter, upsample2d

SHAPE = (4, 128, 128, 128)


def cases() -> harness.Cases:
    f = setup_filter([1, 3, 3, 1])
    # Tensors of x's size: x in, and an output of 4, 1/4 or 1 times as many pixels; the backward pass is the other way round.
    sizes = {"up 2": (upsample2d, 5), "down 2": (downsample2d, 1.25), "filter": (filter2d, 2)}
    variants = {name: harness.MemoryBound(functools.partial(op, f=f), (), size, size) for name, (op, size) in sizes.items()}
    return harness.memory_cases(variants, SHAPE)


if __name__ == "__main__":
    harness.main(__doc__, cases)
