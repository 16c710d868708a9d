"""bias_act: forward and backward of every activation."""

from __future__ import annotations

import functools

import torch

from stylegan_ops import bias_act
from stylegan_ops.ops.bias_act import ACTIVATIONS

from .. import baseline
from ..cases import SHAPE, Case, MemoryBound, Options, memory_cases


def cases(options: Options) -> list[Case]:
    b = torch.randn(SHAPE[1])

    def variant(act: str) -> MemoryBound:
        # The derivative of the linear op is a function of nothing: dy in, dx out. Its bias gradient is one addition per element.
        tensors, arithmetic = ((2, 2), (1, 1)) if act == "linear" else ((2, 3), (3, 3))
        return MemoryBound(functools.partial(bias_act, act=act), functools.partial(baseline.bias_act, act=act), (b,), tensors, arithmetic)

    return memory_cases(options, "bias_act", {act: variant(act) for act in ACTIVATIONS})
