"""filtered_lrelu: a leaky ReLU at a higher sampling rate, so that the edges that it makes do not alias."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..ops import bias_act, upfirdn2d


def filtered_lrelu(
    x: torch.Tensor,
    fu: torch.Tensor | None,
    fd: torch.Tensor | None,
    b: torch.Tensor | None,
    up: int,
    down: int,
    padding: int | Sequence[int],
    gain: float,
    slope: float,
    clamp: float | None,
    flip_filter: bool,
    impl: str | None,
) -> torch.Tensor:
    """1. Add b. 2. Upsample by `up` with fu, amplitude kept. 3. Leaky ReLU, times gain, clamped. 4. Filter with fd and downsample.

    Serves `nvlabs` and `mmcv`, whose names for the arguments differ.
    """
    if b is not None:
        x = bias_act(x, b, impl=impl)
    x = upfirdn2d(x, fu, up=up, padding=padding, flip_filter=flip_filter, gain=up**2, impl=impl)
    x = bias_act(x, act="lrelu", alpha=slope, gain=gain, clamp=clamp, impl=impl)
    return upfirdn2d(x, fd, down=down, flip_filter=flip_filter, impl=impl)
