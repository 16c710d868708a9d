"""pixel_norm: forward and backward at [4, 128, 128, 128].

    python benchmarks/pixel_norm.py [--threads 2] [--cold] [--json FILE]

The columns are those of benchmarks/bias_act.py. Goal: 70 % of the copy in float32.
"""

from __future__ import annotations

import harness

from stylegan_ops import pixel_norm

SHAPE = (4, 128, 128, 128)


def cases() -> harness.Cases:
    return harness.memory_cases({"pixel_norm": harness.MemoryBound(pixel_norm)}, SHAPE)


if __name__ == "__main__":
    harness.main(__doc__, cases)
