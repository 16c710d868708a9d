"""modulated_conv2d with demodulation, noise, bias and leaky ReLU at the layers of StyleGAN2 (128 px, channel_base 16384, batch 4).

    python benchmarks/modulated_conv2d.py [--threads 2] [--cold] [--only up] [--json FILE]

Per row: median of the native op, GFLOP/s of the minimal arithmetic (9 multiplications and additions per pair of channels and pixel, of
the smaller image where the layer resamples), GFLOP/s of one dense channels_last 3x3 convolution of PyTorch with the same arithmetic and
dtype in the same rounds, the share of the one in the other, the reference's median and its ratio to the native one.
"""

from __future__ import annotations

import itertools

import harness
import torch
import torch.nn.functional as F

from stylegan_ops import modulated_conv2d, setup_filter

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


def build(layer: tuple[int, int, int, int], dtype: str, layout: str, backward: bool) -> harness.Case:
    i, o, size, up = layer
    x = torch.randn(N, i, size, size).to(harness.DTYPES[dtype], memory_format=harness.LAYOUTS[layout])
    w = torch.randn(o, i, 3, 3)
    styles, bias, noise = torch.randn(N, i) + 1, torch.randn(o), torch.randn(N, 1, size * up, size * up)
    options = {"up": up, "padding": 1, "resample_filter": setup_filter([1, 3, 3, 1]), "flip_weight": up == 1, "act": "lrelu"}

    def op(x, w, styles, noise, bias, impl):
        return modulated_conv2d(x, w, styles, noise, bias=bias, impl=impl, **options)

    dense_x = x.contiguous(memory_format=torch.channels_last)
    dense_w = w.to(x.dtype, memory_format=torch.channels_last)
    form = harness.gradient if backward else harness.forward
    native, reference = (form(op, x, w, styles, noise, bias, impl=impl) for impl in ("native", "reference"))
    limit = form(F.conv2d, dense_x, dense_w, padding=1)
    # The backward pass is two convolutions: the gradients of the input and of the weights.
    return harness.Case(2 * N * i * o * 9 * size**2 * (2 if backward else 1), "GFLOP/s", native, reference, limit)


def cases() -> harness.Cases:
    for dtype, layout, backward, layer in itertools.product(harness.DTYPES, harness.LAYOUTS, (False, True), LAYERS):
        i, o, size, up = layer
        name = f"{i} to {o}, {size} to {size * up} px, {'backward' if backward else 'forward'}, {dtype} {layout}"
        yield name, lambda case=(layer, dtype, layout, backward): build(*case)


if __name__ == "__main__":
    harness.main(__doc__, cases)
