"""The CUDA kernel of filtered_lrelu, run on the host, against the definition in float64."""

import host
import pytest
import torch
from filtered_lrelu_cases import CASES, Case, Truth
from support import DTYPES, LAYOUTS, accumulate, assert_right, in_layout, randn
from test_filtered_lrelu import operands

from stylegan_ops.ops.filtered_lrelu import MOST_FACTOR, MOST_TAPS

ONE = torch.ones(1, 1)


def fits(case: Case) -> bool:
    return max(max(t.shape) for t in case.taps) <= MOST_TAPS and max(case.up, case.down) <= MOST_FACTOR


# The largest are left to the tests with a GPU or its emulator, for time.
KERNELS = [case for case in CASES if fits(case) and torch.Size(case.shape).numel() < 30000]


def passes(case: Case, sizes: tuple) -> dict[str, list[dict]]:
    """The fields of the ResampleAxes: from the image to the fine one and from there to the result, and back, each x before y."""
    up, down = case.taps
    forward, back = [], []
    for d in (0, 1):
        size, fine, out = (s[1 - d] for s in sizes)
        before, k_up, k_down = case.padding[2 * d], up.shape[1 - d], down.shape[1 - d]
        forward.append(
            (
                {"in": size, "out": fine, "up": case.up, "down": 1, "pad": before, "taps": k_up},
                {"in": fine, "out": out, "up": 1, "down": case.down, "pad": 0, "taps": k_down},
            )
        )
        back.append(
            (
                {"in": out, "out": fine, "up": case.down, "down": 1, "pad": k_down - 1, "taps": k_down},
                {"in": fine, "out": size, "up": 1, "down": case.up, "pad": k_up - before - 1, "taps": k_up},
            )
        )
    return {"forward": forward, "back": back}


def arguments(case: Case, x, b, truth, v=None, adjoint=False) -> dict:
    n, c, _, _ = x.shape
    channels_last = not x.is_contiguous()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    axes = passes(case, (case.shape[2:], truth.z.shape[2:], truth.y.shape[2:]))
    view = {"images": n if channels_last else n * c, "pixel": c if channels_last else 1, "channels": c, "dtype": host.DTYPES[x.dtype]}

    def resampling(of, to_fine, f, gain, flips, **pointers):
        f = ONE if f is None else f
        taps = {"f": f.to(accumulate(x.dtype)), "one_axis": f.ndim == 1, "correlation": case.flip_filter != flips, "gain": float(gain)}
        x_axis, y_axis = (axes[of][d][0 if to_fine else 1] for d in (0, 1))
        return {**view, "filter": taps, "x_axis": x_axis, "y_axis": y_axis, **pointers}

    gain = case.up**2
    fields = {"values": resampling("forward", True, case.fu, gain, False, x=x, **({} if b is None else {"bias": b}))}
    like = torch.empty(case.shape) if adjoint else truth.y
    out = {"out": host.output(like.to(x.dtype).contiguous(memory_format=layout))}
    if adjoint:
        fields["tangents"] = resampling("back", True, case.fd, 1, True, x=in_layout(v, layout))
        fields["results"] = resampling("back", False, case.fu, gain, True, **out)
    else:
        tangent = {} if v is None else {"x": in_layout(v, layout)}
        fields["tangents"] = resampling("forward", True, case.fu, gain, False, **tangent)
        fields["results"] = resampling("forward", False, case.fd, 1, False, **out)
    clamp = None if case.clamp == float("inf") else case.clamp
    activation = host.activation("lrelu", alpha=case.slope, gain=case.gain, clamp=clamp)
    return {**fields, "activation": activation}


def launch(*args, **kwargs):
    return host.launch("filtered_lrelu", **arguments(*args, **kwargs))


@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("name", [case.name for case in host.few(KERNELS)])
def test_matches_float64_reference(name, dtype):
    case = next(case for case in CASES if case.name == name)
    x, b, truth = operands(name, dtype)
    for layout in LAYOUTS:
        image = in_layout(x, layout)
        for got in launch(case, image, b, truth):
            assert_right(got["out"], truth.y, dtype=dtype, terms=case.terms, magnitude=truth.y_size)
        dy = randn(*truth.y.shape, dtype=dtype)
        dx, size = truth.dx(dy)
        for got in launch(case, image, b, truth, dy, adjoint=True):
            assert_right(got["out"], dx, dtype=dtype, terms=case.terms, magnitude=size)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_derivative_in_a_direction(layout):
    case = CASES[0]
    x, b, truth = operands(case.name, torch.float32)
    v = randn(*case.shape, dtype=torch.float32)
    for got in launch(case, in_layout(x, layout), b, truth, v):
        assert_right(got["out"], truth.tangent(v), dtype=torch.float32, terms=case.terms, magnitude=truth.tangent(v).abs() + truth.y_size)


@pytest.mark.parametrize("factors", [(1, MOST_FACTOR), (MOST_FACTOR, MOST_FACTOR), (MOST_FACTOR, 1), (1, 1)])
def test_the_smallest_tile_of_the_longest_filters_fits_every_gpu(factors):
    """float64 and filters of two axes in the 64 KiB that compute capability 7.5 has."""
    f = torch.ones(MOST_TAPS, MOST_TAPS)
    case = Case("longest", (1, 9, 40, 40), f, f, *factors, (24, 24, 24, 24), bias=False)
    x = randn(*case.shape)
    truth = Truth(case, x, None)
    for layout in LAYOUTS:
        fields = arguments(case, in_layout(x, layout), None, truth, torch.ones_like(truth.y), adjoint=True)
        kernels = host.plan("filtered_lrelu", on=host.Device(architecture=75, shared_kib=64), **fields)
        assert len(kernels) == 1
