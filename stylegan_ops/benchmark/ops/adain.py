"""adain: noise, bias and leaky ReLU, then instance norm under a style, forward and backward."""

from __future__ import annotations

import functools

import torch

from stylegan_ops import adain

from .. import baseline
from ..cases import SHAPE, Case, MemoryBound, Options, memory_cases


def cases(options: Options) -> list[Case]:
    n, c, h, w = SHAPE
    parameters = (torch.randn(n, c), torch.randn(n, c), torch.randn(n, 1, h, w), torch.randn(c), torch.randn(c))
    # Two reads and one write; backward reads dy and x twice and writes dx. Beside it, it makes five sums.
    v = MemoryBound(functools.partial(adain, act="lrelu"), baseline.adain, parameters, (3, 5), (11, 20))
    return memory_cases(options, "adain", {"noise, bias, lrelu, style": v})
