"""The CUDA kernel of an up-layer in one pass, run on the host, against float64: zero-insert, convolve, filter, epilogue."""

from dataclasses import dataclass, replace

import host
import pytest
import torch
from closed_forms import CLOSED_FORMS, activate
from convolution import ACTIVATIONS, ARITHMETIC, STEEPEST, Geometry, packed, rounded, scaled
from epilogue_operands import COMBINATIONS, TERMS, Operands
from support import assert_right, bound, randn
from test_conv_epilogue_kernel import small_operands
from test_upfirdn2d import definition
from test_upfirdn2d_kernel import axis
from upfirdn2d_cases import Case as Filter

KINDS = {kind: ARITHMETIC[kind] for kind in ("float16", "bfloat16", "float16, sm_75")}


@dataclass(frozen=True)
class Case:
    """An up-layer: `channels` (in, out), the filter's taps on both axes or (rows, columns), `padding` (left, right, top, bottom)."""

    samples: int
    size: tuple[int, int]
    channels: tuple[int, int]
    taps: tuple[int, ...]
    padding: tuple[int, int, int, int]
    multiprocessors: int
    epilogue: int
    outer: bool = False  # whether the filter of rows and columns is an outer product
    flip_filter: bool = False
    styled: bool = True

    @property
    def geometry(self):
        return Geometry(self.samples, self.size, self.channels, stride=0, pad=(0, 0))

    def filter(self):
        f = randn(*self.taps, dtype=torch.float32)
        if self.outer:
            f = torch.outer(randn(self.taps[0], dtype=torch.float32), randn(self.taps[1], dtype=torch.float32))
        shape = self.samples, self.channels[1], *self.geometry.out_size
        return Filter("behind", shape, f, padding=self.padding, flip_filter=self.flip_filter, gain=4.0)


# A block makes 60 columns and 32 channels; its segment of the rows is the shorter, the more multiprocessors there are.
CASES = {
    "one pixel": Case(1, (1, 1), (5, 5), (1,), (0, 0, 0, 0), 2, 0),
    "as in the models": Case(2, (7, 9), (33, 33), (4,), (1, 1, 1, 1), 2, 4),
    "several strips": Case(1, (3, 47), (17, 5), (4, 4), (1, 2, 2, 1), 2, 2),
    "two strips, odd": Case(2, (5, 31), (5, 17), (3, 2), (2, 0, 1, 3), 8, 7, flip_filter=True),
    "two chunks": Case(1, (9, 5), (64, 64), (4, 4), (2, 1, 1, 2), 2, 3, outer=True),
    "many segments": Case(2, (19, 6), (17, 33), (4, 4), (3, 0, 0, 3), 108, 6),
    "some segments": Case(3, (13, 4), (33, 17), (2,), (1, 0, 0, 1), 6, 9),
    "cropped": Case(2, (8, 7), (5, 33), (3, 4), (-3, -2, -1, -4), 2, 1),
    "cropped, odd": Case(1, (10, 33), (17, 5), (2, 4), (-2, -5, -5, 0), 40, 8, outer=True),
    "beyond the rim": Case(1, (4, 3), (5, 64), (4, 3), (6, 5, 7, 4), 8, 5, styled=False),
    "a column": Case(3, (17, 1), (64, 5), (1, 4), (2, 2, 0, 0), 2, 2, outer=True, flip_filter=True),
    "a row": Case(2, (1, 12), (33, 64), (4, 1), (0, 0, 3, 1), 40, 4, styled=False),
}


def transposed_convolution(x, w):
    """Zeros between the pixels of x [N, I, H, W] and around them, then the convolution with w [O, I, 3, 3], in float64."""
    n, channels, height, width = x.shape
    among_zeros = torch.zeros(n, channels, 2 * height + 3, 2 * width + 3, dtype=torch.float64)
    among_zeros[:, :, 2:-2:2, 2:-2:2] = x
    return torch.nn.functional.conv2d(among_zeros, w.flip(2, 3))


def operands(case, dtype):
    x, w = randn(case.samples, *case.size, case.channels[0], dtype=dtype), randn(*case.channels[::-1], 3, 3, dtype=dtype)
    styles = randn(case.samples, case.channels[0], dtype=torch.float32) if case.styled else None
    f = case.filter()
    size = (axis(f, 1)["out"], axis(f, 0)["out"])
    return x, w, styles, f, Operands((case.samples, case.channels[1], *size), dtype, torch.contiguous_format, *COMBINATIONS[case.epilogue])


def fields(case, arithmetic, x, w, styles, f, behind):
    dtype, channels, (act, clamp) = arithmetic.dtype, case.channels[1], ACTIVATIONS[case.epilogue % len(ACTIVATIONS)]
    conv = {"x": x, "w": packed(w, dtype), "styles": styles, "transposed": True} | case.geometry.fields() | arithmetic.fields()
    taps = {"f": f.f, "one_axis": f.f.ndim == 1, "correlation": f.flip_filter, "gain": f.gain}
    axes = {"x_axis": axis(f, 0), "y_axis": axis(f, 1)}
    epilogue = small_operands(behind, case.samples) | {"channels": channels, "activation": host.activation(act, clamp=clamp)}
    out = host.output((case.samples, axes["y_axis"]["out"], axes["x_axis"]["out"], channels), dtype)
    sizes = {"images": case.samples, "pixel": channels, "dtype": host.DTYPES[dtype]}
    return {"conv": conv, "filter": taps, "epilogue": epilogue, "out": out} | axes | sizes


def filtered(z, f):
    return torch.from_numpy(definition(z.numpy(), f))


def launch(case, arithmetic, *given):
    device = host.Device(arithmetic.architecture, case.multiprocessors)
    return host.launch("conv_blur", device, **fields(case, arithmetic, *given))


@pytest.mark.parametrize("name", host.few(list(CASES), 5))
@pytest.mark.parametrize("kind", host.few(list(KINDS), 2))
def test_matches_float64_reference(kind, name):
    case, arithmetic = CASES[name], KINDS[kind]
    dtype = arithmetic.dtype
    x, w, styles, f, behind = operands(case, dtype)
    image, w64 = torch.from_numpy(scaled(x, styles)).permute(0, 3, 1, 2), w.double()
    carried = torch.from_numpy(rounded(image.numpy(), dtype)) if case.styled else torch.zeros_like(image)
    z, size, inner = (transposed_convolution(*pair) for pair in [(image, w64), (image.abs(), w64.abs()), (carried, w64.abs())])
    # The kernel rounds z once to the dtype, on its way to the filter.
    error = bound(z, dtype, arithmetic.terms(9 * case.channels[0]), size, inner)

    behind.all = filtered(z.abs() + error, f.absolute()), *behind.all[1:]
    magnitude = behind.argument()[1]
    behind.all = filtered(z, f), *behind.all[1:]
    act, clamp = ACTIVATIONS[case.epilogue % len(ACTIVATIONS)]
    y, *_ = activate(behind.argument()[0], act, clamp=clamp)
    steepest = STEEPEST[act] * CLOSED_FORMS[act].gain
    inner = steepest * abs(behind.factors()[1]) * filtered(error, f.absolute()) * 2 / torch.finfo(dtype).eps
    for got in launch(case, arithmetic, x, w, styles, f, behind):
        got, terms = got["out"].permute(0, 3, 1, 2), f.taps_2d().size + 4 + TERMS
        assert_right(got, y, dtype=dtype, terms=terms, magnitude=steepest * magnitude, inner=inner)


def test_segments_do_not_change_the_result():
    case, blocks, results = replace(CASES["many segments"], samples=1), [], []
    given = operands(case, torch.float16)
    for multiprocessors in (1, 3, 108):
        results.append(launch(replace(case, multiprocessors=multiprocessors), KINDS["float16"], *given)[0]["out"])
        blocks += [grid[0] for _, grid in host.module().launched()]
    assert len(set(blocks)) == 3
    assert all(torch.equal(result, results[0]) for result in results)


def test_says_where_it_is():
    for architecture, dtypes in [(75, {torch.float16}), (80, {torch.float16, torch.bfloat16})]:
        host.module().settings(host.ORDERS["none"], 1, architecture)
        assert {dtype for dtype, number in host.DTYPES.items() if host.module().has_conv_blur(number)} == dtypes


def test_cases_reach_every_kernel():
    reached = set()
    for arithmetic in KINDS.values():
        case = CASES["one pixel"]
        device = host.Device(arithmetic.architecture, case.multiprocessors)
        plan = host.plan("conv_blur", device, **fields(case, arithmetic, *operands(case, arithmetic.dtype)))
        reached |= {kernel for kernel, _ in plan}
    assert reached == host.instantiations("conv_blur_kernel")
