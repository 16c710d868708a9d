"""`op.upfirdn2d`: resampling, with this family's own rule for the padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ... import ops


def upfirdn2d(
    input: torch.Tensor, kernel: torch.Tensor, up: int | Sequence[int] = 1, down: int | Sequence[int] = 1, pad: Sequence[int] = (0, 0)
) -> torch.Tensor:
    """Zero-insert, pad or crop, convolve with kernel, keep every n-th pixel.

    Args:
        input: images `[N, C, H, W]`. kernel: `[K_h, K_w]`. up, down: one integer or `(x, y)`.
        pad: `(before, after)`, for both axes, where NVIDIA's functions take two numbers for `[x, y]`; or `(x0, x1, y0, y1)`.

    Raises:
        ValueError: kernel has another number of dimensions than 2, pad another number of integers than 2 or 4.

    Other than theirs: bfloat16 and channels_last work everywhere. Differentiable to any order in input.
    """
    if kernel.ndim != 2:
        raise ValueError(f"upfirdn2d: kernel must have 2 dimensions (got shape {tuple(kernel.shape)})")
    if not isinstance(pad, Sequence) or len(pad) not in (2, 4):
        raise ValueError(f"upfirdn2d: pad must be (before, after) or (x0, x1, y0, y1) (got {pad!r})")
    return ops.upfirdn2d(input, kernel, up, down, (*pad, *pad) if len(pad) == 2 else tuple(pad))
