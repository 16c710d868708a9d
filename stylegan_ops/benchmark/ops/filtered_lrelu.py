"""filtered_lrelu: up 2 and down 2 with separable filters of 12 taps, StyleGAN3's usual layer, forward and backward."""

from __future__ import annotations

import functools

import torch

from stylegan_ops import filtered_lrelu, setup_filter

from .. import baseline
from ..cases import Case, MemoryBound, Options, memory_cases


def cases(options: Options) -> list[Case]:
    f = setup_filter(torch.hann_window(14, periodic=False)[1:-1], separable=True).to(options.device)

    def op(x: torch.Tensor, b: torch.Tensor, impl: str | None = None) -> torch.Tensor:
        return filtered_lrelu(x, f, f, b, up=2, down=2, padding=11, impl=impl)

    form = functools.partial(baseline.filtered_lrelu, taps=f)
    # One read and one write; backward reads dy and x and writes dx. Arithmetic per element: 12 + 24 multiplications and additions up, 6 for
    # each of 4 fine pixels, 24 + 12 down; backward makes the fine image anew.
    v = MemoryBound(op, form, (torch.randn(32),), (2, 3), (168, 312))
    return memory_cases(options, "filtered_lrelu", {"up 2, down 2, 12 taps": v}, (1, 32, 148, 148))
