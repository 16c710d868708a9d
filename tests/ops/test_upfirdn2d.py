"""upfirdn2d against scipy's upfirdn and against its definition in numpy, and in the tests that all rooms share."""

from functools import cache, lru_cache

import numpy as np
import pytest
import scipy.signal
import torch
from support import (
    DTYPES,
    LAYOUTS,
    assert_compiles,
    assert_exports,
    assert_rejects,
    assert_right,
    assert_same_layout,
    gradcheck,
    gradgradcheck,
    grads,
    in_layout,
    leaf,
    needs_compiler,
    non_dense,
    randn,
)
from upfirdn2d_cases import CASES, Case

from stylegan_ops import setup_filter, upfirdn2d
from stylegan_ops.ops._registry import CPU_VARIANTS

NAMES = [case.name for case in CASES]


def definition(x: np.ndarray, case: Case) -> np.ndarray:
    """The four steps one after the other: zero-insert, pad or crop, filter (2-D), decimate."""
    n, c, h, w = x.shape
    (ux, uy), (dx, dy), (left, right, top, bottom) = case.up, case.down, case.padding
    y = np.zeros((n, c, h * uy, w * ux))
    y[:, :, ::uy, ::ux] = x
    y = np.pad(y, [(0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))])
    y = y[:, :, max(-top, 0) : y.shape[2] - max(-bottom, 0), max(-left, 0) : y.shape[3] - max(-right, 0)]
    f = case.taps_2d()
    f = f if case.flip_filter else f[::-1, ::-1]
    planes = [scipy.signal.correlate2d(plane, f * case.gain, mode="valid") for plane in y.reshape(-1, *y.shape[2:])]
    return np.stack(planes).reshape(n, c, *planes[0].shape)[:, :, ::dy, ::dx]


def along_axis(x: np.ndarray, f: np.ndarray, axis: int, up: int, down: int, before: int, after: int) -> np.ndarray:
    """scipy's upfirdn gives the whole convolution; the wanted part begins K - 1 - before samples into it, or before it."""
    whole = scipy.signal.upfirdn(f, x, up=up, axis=axis)
    size = x.shape[axis] * up + before + after - len(f) + 1
    first = len(f) - 1 - before
    margins = [(max(-first, 0), max(first + size - whole.shape[axis], 0)) if d == axis else (0, 0) for d in range(x.ndim)]
    whole = np.pad(whole, margins)
    return np.take(whole, max(first, 0) + np.arange(0, size, down), axis=axis)


def by_scipy(x: np.ndarray, case: Case) -> np.ndarray:
    f = case.taps_1d()
    f = f[::-1] if case.flip_filter else f
    left, right, top, bottom = case.padding
    y = along_axis(x, f, 3, case.up[0], case.down[0], left, right)
    return along_axis(y, f, 2, case.up[1], case.down[1], top, bottom) * case.gain


@cache
def image(name: str) -> torch.Tensor:
    torch.manual_seed(1)
    return randn(*CASES[NAMES.index(name)].shape)


@lru_cache(maxsize=4)
def truth_of(name: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition's result for the rounded image, and the sums of the absolute values of its terms."""
    case, x = CASES[NAMES.index(name)], image(name).to(dtype).double().numpy()
    size = definition(np.abs(x), case.absolute())
    return torch.from_numpy(definition(x, case)), torch.from_numpy(size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_matches_float64_reference(name, dtype, kernel):
    case = CASES[NAMES.index(name)]
    truth, size = truth_of(name, dtype)
    for layout in LAYOUTS:
        x = in_layout(image(name).to(dtype), layout)
        y = upfirdn2d(x, case.f, case.up_argument, case.down_argument, case.padding_argument, case.flip_filter, case.gain)
        assert y.dtype == dtype
        assert_same_layout(y, x)
        assert_right(y, truth, dtype=dtype, terms=case.taps_2d().size + 4, magnitude=size)


@pytest.mark.parametrize("name", [case.name for case in CASES if case.taps_1d() is not None])
def test_matches_scipy(kernel, name):
    case, x = CASES[NAMES.index(name)], image(name)
    y = upfirdn2d(x, case.f, case.up_argument, case.down_argument, case.padding_argument, case.flip_filter, case.gain)
    size = torch.from_numpy(by_scipy(x.abs().numpy(), case.absolute()))
    assert_right(y, torch.from_numpy(by_scipy(x.numpy(), case)), dtype=x.dtype, terms=2 * len(case.taps_1d()) + 4, magnitude=size)


@pytest.mark.parametrize("name", NAMES)
def test_backward_is_the_adjoint(kernel, name):
    """<A x, y> = <x, A^T y> for a second x too, in both layouts of y."""
    case = CASES[NAMES.index(name)]
    a, b = leaf(image(name)), image(name).flip(3)

    def apply(x):
        return upfirdn2d(x, case.f, case.up_argument, case.down_argument, case.padding_argument, case.flip_filter, case.gain)

    y = apply(a)
    for layout in LAYOUTS:
        dy = in_layout(randn(*y.shape), layout)
        (dx,) = grads(apply(a), [a], dy)
        for x in (a.detach(), b):
            terms = apply(x) * dy
            assert abs(float(terms.sum() - (x * dx).sum())) <= 1e-12 * float(terms.abs().sum())


RESAMPLING = [{"up": 2, "padding": [2, 1, 2, 1]}, {"down": 2, "padding": 1}, {"padding": [1, 2]}, {"up": 2, "padding": [1, 2]}]
RESAMPLED = [(2, 3, 21, 70), (2, 40, 9, 12), (1, 2, 5, 2100)]  # rows of several vectors, of long pixels, of several tiles


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_nan_reaches_what_its_taps_reach(kernel, layout, dtype):
    f = setup_filter([1, 3, 3, 1])
    for shape in RESAMPLED:
        x = randn(*shape, dtype=dtype, layout=layout)
        x[:, 1::2, 3, 1] = x[:, 0, -1, -1] = float("nan")
        for kwargs in RESAMPLING:
            reached = upfirdn2d(x.isnan().float(), f, **kwargs) > 0
            assert torch.equal(upfirdn2d(x, f, **kwargs).isnan(), reached)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", CPU_VARIANTS, indirect=True)
def test_any_number_of_threads_gives_the_same_bits(kernel, layout, dtype):
    f = setup_filter([1, 3, 3, 1])
    for shape in ((3, 20, 61, 70), (1, 128, 37, 33)):
        x = randn(*shape, dtype=dtype, layout=layout)
        for kwargs in RESAMPLING:
            results = []
            for threads in (1, 2, 3, 7):
                torch.set_num_threads(threads)
                results.append(upfirdn2d(x, f, **kwargs))
            assert all(torch.equal(results[0], y) for y in results[1:])


def test_a_step_longer_than_the_image_keeps_one_pixel(kernel):
    x = leaf(randn(1, 2, 4, 5))
    y = upfirdn2d(x, None, down=2**40)
    assert torch.equal(y, x[:, :, :1, :1])
    (dx,) = grads(y, [x], torch.ones_like(y))
    assert dx.sum() == dx[:, :, 0, 0].sum() == 2


def test_an_image_without_rows_is_refused_or_has_a_gradient(kernel):
    x = leaf(randn(1, 1, 0, 4))
    try:
        y = upfirdn2d(x, None, padding=2)
    except ValueError:
        return
    assert y.shape == (1, 1, 4, 8)
    assert grads(y, [x], torch.ones_like(y))[0].shape == x.shape


SMALL = {"up": [2, 1], "down": [1, 2], "padding": [2, 1, 0, 1]}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradcheck(implementation, layout):
    f = randn(3, 2)
    gradcheck(lambda x: upfirdn2d(x, f, **SMALL, gain=1.5), randn(2, 3, 3, 3, layout=layout))
    gradcheck(lambda x: upfirdn2d(x, f[0], up=2, down=3, padding=2, flip_filter=True), randn(1, 1, 7, 3, layout=layout))
    gradcheck(lambda x: upfirdn2d(x, None, padding=[1, -1]), randn(1, 2, 3, 5, layout=layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradgradcheck(implementation, layout):
    f = randn(3, 2)
    # made nonlinear, or the second derivative would be zero
    gradgradcheck(
        lambda x: upfirdn2d(upfirdn2d(x, f, **SMALL).square(), f, up=2, padding=1, flip_filter=True), randn(1, 3, 3, 3, layout=layout)
    )
    gradgradcheck(lambda x: upfirdn2d(x, f[0], down=2, padding=2).pow(3), randn(1, 2, 3, 5, layout=layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(native, layout):
    op = torch.ops.stylegan_ops.upfirdn2d.default
    for shape, f, up, down, padding in [
        ((2, 3, 4, 5), randn(4, 4), [2, 2], [1, 1], [2, 1, 2, 1]),
        ((2, 3, 4, 5), randn(4), [1, 1], [2, 1], [1, 1, 1, 1]),
        ((2, 3, 1, 1), randn(1, 1), [1, 1], [1, 1], [0, 0, 0, 0]),
        ((0, 3, 4, 5), randn(2, 3), [2, 1], [1, 2], [2, 1, 2, 1]),
        ((2, 1, 5, 4), randn(3, 3), [1, 1], [1, 1], [-1, 1, 0, 0]),
    ]:
        torch.library.opcheck(op, (leaf(randn(*shape, layout=layout)), f, up, down, padding, False, 1.5))


def test_compiles(implementation):
    f = setup_filter([1, 3, 3, 1])
    for layout in LAYOUTS:
        x = randn(2, 3, 4, 5, dtype=torch.float32, layout=layout)
        assert_compiles(lambda x: upfirdn2d(x * 2, f, up=2, padding=[2, 1, 2, 1], gain=4) + 1, "aot_eager", x)


@needs_compiler
def test_compiles_with_inductor(native):
    f = setup_filter([1, 3, 3, 1])
    assert_compiles(lambda x: upfirdn2d(x * 2, f, down=2, padding=1) + 1, "inductor", randn(2, 3, 4, 5, dtype=torch.float32))


def test_exports(implementation):
    node = "upfirdn2d" if implementation == "native" else None
    assert_exports(
        lambda x, f: upfirdn2d(x, f, down=2, padding=1), randn(2, 3, 4, 5, dtype=torch.float32), setup_filter([1, 3, 3, 1]), node=node
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_autocast(kernel, dtype):
    """The result does not change: no step of it runs in less precision."""
    x, f = randn(2, 3, 5, 5, dtype=dtype), setup_filter([1, 3, 3, 1])
    with torch.autocast("cpu", torch.bfloat16):
        y = upfirdn2d(x, f, up=2, padding=2)
    assert y.dtype == dtype
    assert torch.equal(y, upfirdn2d(x, f, up=2, padding=2))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_empty_batch(kernel, shape, layout):
    x = leaf(randn(*shape, layout=layout))
    y = upfirdn2d(x, setup_filter([1, 3, 3, 1]), up=2, padding=[2, 1, 2, 1])
    assert y.shape == (*shape[:2], 8, 10)
    assert grads(y, [x], torch.ones_like(y))[0].shape == x.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_keeps_layout(kernel, layout, dtype):
    f = setup_filter([1, 2, 1])
    for shape in [(2, 3, 5, 7), (2, 1, 5, 7), (1, 64, 3, 3), (1, 3, 5, 1)]:
        x = leaf(randn(*shape, dtype=dtype, layout=layout))
        y = upfirdn2d(x, f, up=2, padding=2)
        assert y.dtype == dtype
        assert_same_layout(y, x)
        if kernel != "reference":
            assert_same_layout(grads(y, [x], torch.ones_like(y))[0], x)


@pytest.mark.parametrize("f", [torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([[1.0, 2.0], [3.0, 5.0]])])
def test_non_dense_inputs(kernel, f):
    for x in non_dense(randn(2, 3, 7, 5, dtype=torch.float32)).values():
        for g in (f, torch.stack([f, f + 1], -1)[..., 0], f.t() if f.ndim == 2 else f.flip(0)):
            case = Case("", tuple(x.shape), g, (2, 1), (1, 2), (2, 1, 2, 1))
            z = leaf(x) if x.stride(2) else x.clone().requires_grad_()
            truth = torch.from_numpy(definition(x.double().numpy(), case))
            size = torch.from_numpy(definition(x.double().abs().numpy(), case))
            y = upfirdn2d(x, g, [2, 1], [1, 2], [2, 1, 2, 1])
            assert_right(y, truth, dtype=x.dtype, terms=20, magnitude=size)
            dy = randn(*reversed(y.shape), dtype=torch.float32).permute(3, 2, 1, 0)
            got = grads(upfirdn2d(z, g, [2, 1], [1, 2], [2, 1, 2, 1]), [z], dy)[0]
            wanted = grads(upfirdn2d(z, g, [2, 1], [1, 2], [2, 1, 2, 1]), [z], dy.contiguous())[0]
            torch.testing.assert_close(got, wanted)


X, F = torch.zeros(2, 3, 4, 5), torch.ones(3, 3)
SIDE_RULE = "the upsampled and padded image must have fewer than 2^31 pixels a side"


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (TypeError, "f must be a tensor (got list)", {"f": [1.0, 1.0]}),
        (TypeError, "f must be of a floating-point dtype (got torch.int64)", {"f": torch.ones(3, dtype=torch.int64)}),
        (ValueError, "f must have shape [K] or [K_h, K_w] with at least 1 tap (got shape (1, 1, 3))", {"f": torch.ones(1, 1, 3)}),
        (ValueError, "f must have shape [K] or [K_h, K_w] with at least 1 tap (got shape ())", {"f": torch.tensor(1.0)}),
        (ValueError, "f must have shape [K] or [K_h, K_w] with at least 1 tap (got shape (0, 3))", {"f": torch.ones(0, 3)}),
        (ValueError, "f must not require a gradient (got requires_grad=True)", {"f": torch.ones(3, requires_grad=True)}),
        (ValueError, "f must be on the device of the image, cpu (got meta)", {"f": torch.ones(3, device="meta")}),
        (ValueError, "f must fit into the padded image of 4 x 5 pixels (got 5 x 3 taps)", {"f": torch.ones(5, 3)}),
        (ValueError, "f must fit into the padded image of 8 x 6 pixels (got 3 x 7 taps)", {"f": torch.ones(3, 7), "padding": [1, 0, 3, 1]}),
        (ValueError, "up must be at least 1 (got 0)", {"up": 0}),
        (ValueError, "up must be at least 1 (got -2)", {"up": [1, -2]}),
        (ValueError, "up must be one integer or [x, y] (got [1, 1, 1])", {"up": [1, 1, 1]}),
        (TypeError, "up must be an integer (got 1.5)", {"up": 1.5}),
        (TypeError, "up must be an integer (got '2')", {"up": "2"}),
        (TypeError, "up must be an integer (got True)", {"up": True}),
        (ValueError, "down must be at least 1 (got 0)", {"down": (2, 0)}),
        (TypeError, "down must be an integer (got None)", {"down": None}),
        (ValueError, "padding must be one integer, [x, y] or [left, right, top, bottom] (got [1, 1, 1])", {"padding": [1, 1, 1]}),
        (TypeError, "padding must consist of integers (got [1.0, 0])", {"padding": [1.0, 0]}),
        (TypeError, "padding must consist of integers (got '1')", {"padding": "1"}),
        (ValueError, "padding (-9, 0, 0, 0) crops the whole image (height 4, width 5)", {"padding": [-9, 0, 0, 0]}),
        (ValueError, "padding (0, 0, -4, -4) crops the whole image (height 8, width 10)", {"padding": (0, 0, -4, -4), "up": 2}),
        (ValueError, f"{SIDE_RULE} (got 4294967301)", {"padding": 2**31}),
        (ValueError, f"{SIDE_RULE} (got 10737418240)", {"up": 2**31}),
        (TypeError, "gain must be a real number (got '4')", {"gain": "4"}),
        (ValueError, "impl must be one of auto, native, reference (got 'ref')", {"impl": "ref"}),
    ],
)
def test_rejects_arguments(implementation, error, message, kwargs):
    assert_rejects(error, f"upfirdn2d: {message}", upfirdn2d, X, **{"f": F, **kwargs})


def test_rejects_images(implementation):
    assert_rejects(TypeError, "upfirdn2d: x must be a tensor (got NoneType)", upfirdn2d, None, F)
    assert_rejects(TypeError, "upfirdn2d: x must be of a floating-point dtype (got torch.uint8)", upfirdn2d, X.byte(), F)
    assert_rejects(ValueError, "upfirdn2d: x must have 4 dimensions (got shape (3, 4, 5))", upfirdn2d, X[0], F)


def test_takes_numpy_integers(implementation):
    two, one = np.int64(2), np.int64(1)
    assert torch.equal(
        upfirdn2d(X + 1, F, up=two, down=[one, two], padding=[one, two]), upfirdn2d(X + 1, F, up=2, down=[1, 2], padding=[1, 2])
    )
