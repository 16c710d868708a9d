"""The ops' benchmarks: one file per op, each with the `cases` of its op."""

from __future__ import annotations

from ..cases import Case, Options
from . import adain, bias_act, conv_epilogue, filtered_lrelu, modulated_conv2d, pixel_norm, small, upfirdn2d


def cases(options: Options) -> list[Case]:
    """The rows of all ops, the memory-bound ones first, calls on small tensors last."""
    rooms = (bias_act, conv_epilogue, adain, pixel_norm, upfirdn2d, filtered_lrelu, modulated_conv2d, small)
    return [case for room in rooms for case in room.cases(options)]
