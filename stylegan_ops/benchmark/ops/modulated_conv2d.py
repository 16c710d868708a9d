"""modulated_conv2d with demodulation, noise, bias and leaky ReLU at the layers of StyleGAN2 (128 px, channel_base 16384, batch 4).

GFLOP/s are those of the minimal arithmetic: 9 multiplications and additions per pair of channels and pixel, of the smaller image where
the layer resamples. An "up" row has the filter and everything behind it inside.
"""

from __future__ import annotations

import itertools

import torch

from stylegan_ops import modulated_conv2d, setup_filter

from .. import baseline
from ..cases import DTYPES, LAYOUTS, Case, Options, Work, dense_convolution, forward, gradient, op_forms

N = 4
# Input channels, output channels, pixels of the input's side, up.
LAYERS = (
    (512, 512, 8, 1),
    (512, 512, 32, 1),
    (256, 256, 64, 1),
    (128, 128, 128, 1),
    (512, 512, 8, 2),
    (512, 512, 16, 2),
    (512, 256, 32, 2),
    (256, 128, 64, 2),
)


def build(options: Options, layer: tuple[int, int, int, int], dtype: str, layout: str, backward: bool) -> Work:
    i, o, size, up = layer
    x = torch.randn(N, i, size, size, device=options.device).to(DTYPES[dtype], memory_format=LAYOUTS[layout])
    shapes = ((o, i, 3, 3), (N, i), (N, 1, size * up, size * up), (o,))
    operands = [torch.randn(shape, device=options.device) for shape in shapes]
    taps = setup_filter([1, 3, 3, 1]).to(options.device)

    def op(x, weight, styles, noise, bias, impl):
        resampling = {"up": up, "padding": 1, "resample_filter": taps, "flip_weight": up == 1}
        return modulated_conv2d(x, weight, styles, noise, bias=bias, act="lrelu", impl=impl, **resampling)

    def plain(x, weight, styles, noise, bias):
        y = baseline.modulated_conv2d(x, baseline.modulated_weights(weight, styles), taps if up == 2 else None)
        return baseline.bias_act(y + noise.to(y.dtype), bias)

    limit = dense_convolution(x.dtype, options.device, N, i, o, size, backward)
    forms = op_forms(options, op, plain, gradient if backward else forward, [x, *operands])
    # The backward pass reads x, dy and the output, and writes dx; both read the weights.
    pixels = N * (i + o * up**2) * size**2 * (2 if backward else 1)
    moved = (pixels + o * i * 9) * x.element_size()
    return Work(forms, limit.amount, "GFLOP/s", limit, facts={"bytes": moved, "flop": limit.amount})


def cases(options: Options) -> list[Case]:
    def case(dtype: str, layout: str, backward: bool, layer: tuple[int, int, int, int]) -> Case:
        i, o, size, up = layer
        which = "backward" if backward else "forward"
        name = f"{i} to {o}, {size} to {size * up} px{', up' if up == 2 else ''}, {which}, {dtype} {layout}"
        facts = {"dtype": dtype, "layout": layout, "pass": which, "batch": N, "resolution": size * up}
        return Case("ops", "modulated_conv2d", name, lambda: build(options, layer, dtype, layout, backward), facts)

    choices = itertools.product(options.dtypes_or("float32", "bfloat16"), LAYOUTS, (False, True), LAYERS)
    return [case(*choice) for choice in choices]
