"""upfirdn2d: up 2, down 2 and filter with the taps 1 3 3 1, forward and backward.

With an epilogue behind it in the same pass it is no op of its own: the rows "up" of modulated_conv2d have it.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from stylegan_ops import downsample2d, filter2d, setup_filter, upsample2d

from .. import baseline
from ..cases import Case, MemoryBound, Options, memory_cases


def cases(options: Options) -> list[Case]:
    f = setup_filter([1, 3, 3, 1]).to(options.device)

    def plain(x: torch.Tensor, padding: int, stride: int = 1) -> torch.Tensor:
        return baseline.fir(x, f, padding, stride)

    # Tensors of x's size: x in, and an output of 4, 1/4 or 1 times as many pixels; the backward pass is the other way round. Arithmetic: 16
    # taps per pixel of the output, or per pixel of the input that is not zero.
    variants = {
        "up 2": (upsample2d, functools.partial(baseline.upsample, taps=f), 5, 32),
        "down 2": (downsample2d, functools.partial(plain, padding=1, stride=2), 1.25, 8),
        "filter": (filter2d, lambda x: plain(F.pad(x, (2, 1, 2, 1)), padding=0), 2, 32),
    }
    return memory_cases(
        options,
        "upfirdn2d",
        {
            name: MemoryBound(functools.partial(op, f=f), form, (), (tensors, tensors), (flop, flop))
            for name, (op, form, tensors, flop) in variants.items()
        },
    )
