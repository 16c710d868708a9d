"""The CUDA kernels of upfirdn2d, run on the host, against the definition in float64."""

import host
import numpy as np
import pytest
import torch
from closed_forms import Expected
from support import DTYPES, LAYOUTS, accumulate, assert_right, in_layout, randn
from test_upfirdn2d import NAMES, definition, image, truth_of
from upfirdn2d_cases import CASES, Case


def axis(case, d):
    """The fields of a ResampleAxis: 0 for x, 1 for y."""
    taps = case.taps_2d().shape[1 - d]
    size, up, down, before, after = case.shape[3 - d], case.up[d], case.down[d], *case.padding[2 * d : 2 * d + 2]
    return {"in": size, "out": (size * up + before + after - taps) // down + 1, "up": up, "down": down, "pad": before, "taps": taps}


def launch(x, case, **fields):
    n, c, _, _ = x.shape
    channels_last = not x.is_contiguous()
    x_axis, y_axis = axis(case, 0), axis(case, 1)
    f = torch.ones(1) if case.f is None else case.f
    taps = {"f": f.to(accumulate(x.dtype)), "one_axis": f.ndim == 1, "correlation": case.flip_filter, "gain": case.gain}
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = host.output(torch.empty(n, c, y_axis["out"], x_axis["out"], dtype=x.dtype).contiguous(memory_format=layout))
    view = {"images": n if channels_last else n * c, "pixel": c if channels_last else 1, "x_axis": x_axis, "y_axis": y_axis}
    return host.launch("upfirdn2d", x=x, out=out, filter=taps, dtype=host.DTYPES[x.dtype], **view, **fields)


# The wide and the high ones are left to the tests with a GPU or its emulator, for time.
SHORT = [name for name in NAMES if np.prod(CASES[NAMES.index(name)].shape) < 20000]


@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("name", host.few(SHORT, 8))
def test_matches_float64_reference(name, dtype):
    case = CASES[NAMES.index(name)]
    truth, size = truth_of(name, dtype)
    for layout in LAYOUTS:
        for got in launch(in_layout(image(name).to(dtype), layout), case):
            assert_right(got["out"], truth, dtype=dtype, terms=case.taps_2d().size + 4, magnitude=size)


# Filters of one pixel's step with four taps and with fewer, channels in vectors and not, noise for each sample or for all.
@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_epilogue(layout, dtype):
    small = accumulate(dtype)
    for (n, c, h, w), f, clamp in [((2, 8, 7, 9), randn(4, 4), 0.7), ((2, 3, 5, 8), randn(4), None), ((1, 6, 9, 9), randn(3, 2), 0.7)]:
        case = Case("epilogue", (n, c, h, w), f.float(), padding=(1, 2, 2, 1), gain=2.0)
        x = randn(n, c, h, w, dtype=dtype, layout=layout)
        y, size = (torch.from_numpy(definition(t, k)) for t, k in [(x.double().numpy(), case), (x.double().abs().numpy(), case.absolute())])
        pixels = y.shape[2] * y.shape[3]
        scale, noise, bias = (randn(*shape, dtype=small) for shape in [(n, c), (n, 1, *y.shape[2:]), (c,)])
        parts = y * scale.double()[:, :, None, None], noise.double(), bias.double()[:, None, None]
        size = size * scale.double().abs()[:, :, None, None] + parts[1].abs() + parts[2].abs()
        expected = Expected(sum(parts), size, dtype, "lrelu", clamp=clamp)
        operands = {"scale": scale, "noise": noise, "bias": bias, "channels": c, "noise_stride": pixels if n > 1 else 0}
        for got in launch(x, case, epilogue=operands | {"activation": host.activation("lrelu", clamp=clamp)}):
            assert_right(got["out"], expected.y, dtype=dtype, terms=case.taps_2d().size + 16, magnitude=expected.y_size)
