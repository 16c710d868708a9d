"""Small tensors: what a whole public call costs beside an empty registered operator, in inference mode.

The empty operator is registered in Python and returns an empty tensor of the input's size: a call costs as much as that at least, in any
package.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F

from stylegan_ops import bias_act, pixel_norm, setup_filter, upfirdn2d

from .. import baseline
from ..cases import DTYPES, Case, Options, Work, op_forms
from ..timing import Form

CHANNELS = (64, 512)
SIDES = (4, 8, 16)
CALLS = 50
EMPTY = torch.library.Library("benchmark_empty", "DEF")
EMPTY.define("empty(Tensor x) -> Tensor")
EMPTY.impl("empty", torch.empty_like, "CompositeExplicitAutograd")


def cases(options: Options) -> list[Case]:
    f = setup_filter([1, 3, 3, 1]).to(options.device)
    ops = {
        "bias_act": (functools.partial(bias_act, act="lrelu"), baseline.bias_act),
        "pixel_norm": (pixel_norm, baseline.pixel_norm),
        "upfirdn2d": (functools.partial(upfirdn2d, f=f, padding=(2, 1, 2, 1)), lambda x: baseline.fir(F.pad(x, (2, 1, 2, 1)), f, 0)),
    }

    def case(op: str, channels: int, side: int, dtype: str) -> Case:
        def build() -> Work:
            x = torch.randn(1, channels, side, side, device=options.device).to(DTYPES[dtype])
            inputs = [x, torch.randn(channels, device=options.device)] if op == "bias_act" else [x]
            forms = op_forms(options, *ops[op], many, inputs)
            return Work({**forms, "empty": many(torch.ops.benchmark_empty.empty.default, x)}, calls=CALLS)

        facts = {"dtype": dtype, "shape": [1, channels, side, side], "batch": 1, "resolution": side}
        return Case("small", f"{op}, small", f"[1, {channels}, {side}, {side}], {dtype}", build, facts, seconds=0.5)

    return [case(*which) for which in itertools.product(ops, CHANNELS, SIDES, options.dtypes_or("float32"))]


def many(op: Callable, *inputs: torch.Tensor, **kwargs: object) -> Form:
    """Many calls in a row in inference mode: one takes microseconds."""

    def run() -> None:
        with torch.inference_mode():
            for _ in range(CALLS):
                op(*inputs, **kwargs)

    return run
