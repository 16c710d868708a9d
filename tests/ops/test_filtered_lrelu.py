"""filtered_lrelu against its definition in numpy, and in the tests that all rooms share."""

from functools import cache

import pytest
import torch
from filtered_lrelu_cases import CASES, Case, Truth
from support import (
    DTYPES,
    LAYOUTS,
    accumulate,
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

from stylegan_ops import filtered_lrelu, setup_filter
from stylegan_ops.ops.filtered_lrelu import MOST_FACTOR, MOST_TAPS

BY_NAME = {case.name: case for case in CASES}
FIR = setup_filter([1, 2, 4, 4, 2, 1], separable=True)
RADIAL = setup_filter([[1, 2, 1], [2, 5, 3], [0, 2, 1]])


@cache
def operands(name: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None, Truth]:
    torch.manual_seed(1)
    case = BY_NAME[name]
    x, b = randn(*case.shape, dtype=dtype), randn(case.shape[1], dtype=accumulate(dtype)) if case.bias else None
    return x, b, Truth(case, x, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BY_NAME)
def test_matches_float64_reference(kernel, name, dtype):
    case, (x, b, truth) = BY_NAME[name], operands(name, dtype)
    for layout in LAYOUTS:
        leaves = [leaf(in_layout(x, layout)), leaf(b)]
        y = filtered_lrelu(leaves[0], b=leaves[1], **case.kwargs)
        assert y.dtype == dtype
        assert_same_layout(y, leaves[0])
        assert_right(y, truth.y, dtype=dtype, terms=case.terms, magnitude=truth.y_size)

        dy = randn(*y.shape, dtype=dtype, layout=LAYOUTS[len(name) % 2])
        dx, size = truth.dx(dy)
        got, db = grads(y, leaves, dy)
        assert_right(got, dx, dtype=dtype, terms=case.terms, magnitude=size)
        if b is not None:
            # the sum of what is rounded in dx
            axes, count = (0, 2, 3), dx.numel() // dx.shape[1]
            rounded = torch.finfo(dtype).eps / torch.finfo(accumulate(dtype)).eps
            assert_right(db, dx.sum(axes), dtype=accumulate(dtype), terms=case.terms + count + rounded, magnitude=size.sum(axes))


@pytest.mark.parametrize("name", BY_NAME)
def test_the_derivative_and_its_adjoint(kernel, name):
    """<J v, dy> = <v, J^T dy>, with J v from the definition; and the derivative of J^T dy in dy is J again."""
    case, (x, b, truth) = BY_NAME[name], operands(name, torch.float64)
    for layout in LAYOUTS:
        x = leaf(in_layout(x, layout))
        y = filtered_lrelu(x, b=b, **case.kwargs)
        dy, v = randn(*y.shape, layout=layout).requires_grad_(), randn(*x.shape)
        (dx,) = torch.autograd.grad(y, [x], dy, create_graph=True)
        wanted = truth.tangent(v)
        terms = wanted * dy.detach()
        assert abs(float(terms.sum() - (v * dx.detach()).sum())) <= 1e-12 * float(terms.abs().sum()) + 1e-300
        (got,) = torch.autograd.grad(dx, [dy], v)
        assert_right(got, wanted, dtype=torch.float64, terms=case.terms, magnitude=Truth(case, v, None).y_size)


def test_the_cases_meet_the_limits():
    """Some are at the limits of the kernels, some beyond each."""
    taps = [max(max(t.shape) for t in case.taps) for case in CASES]
    factors = [max(case.up, case.down) for case in CASES]
    assert MOST_TAPS in taps and MOST_TAPS + 1 in taps and MOST_FACTOR in factors and MOST_FACTOR + 1 in factors


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keeps_only_its_image(native, layout):
    """What the graph holds for the backward pass: x, the bias and the filters."""
    x, b = leaf(randn(2, 4, 16, 16, dtype=torch.float32, layout=layout)), leaf(randn(4, dtype=torch.float32))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        filtered_lrelu(x, FIR, FIR, b, 2, 2, 5)
    assert sum(t.numel() for t in kept) == x.numel() + b.numel() + 2 * FIR.numel()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_number_of_threads_gives_the_same_bits(native, layout, dtype):
    x = leaf(randn(2, 3, 90, 700, dtype=dtype, layout=layout))
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        y = filtered_lrelu(x, FIR, RADIAL, None, 2, 2, 5)
        results.append([y, *grads(y, [x], torch.ones_like(y))])
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_nan_reaches_what_its_taps_reach(kernel, layout, dtype):
    x = torch.zeros(1, 5, 9, 40, dtype=dtype).contiguous(memory_format=layout)
    x[0, 1, 3, 7] = x[0, 4, -1, -1] = float("nan")
    up, down = torch.ones(4), torch.ones(3, 2)
    reached = filtered_lrelu(x.isnan().float(), up, down, None, 2, 2, 3) > 0
    assert torch.equal(filtered_lrelu(x, up, down, None, 2, 2, 3, clamp=1.0).isnan(), reached)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradcheck(implementation, layout):
    for shape, fu, fd, kwargs in (
        ((1, 3, 3, 2), FIR, FIR, {"up": 2, "down": 2, "padding": 5}),
        ((2, 1, 4, 3), RADIAL, RADIAL[:2], {"down": 3, "padding": [4, 2, 1, 3], "clamp": 0.5, "flip_filter": True}),
        ((1, 2, 3, 5), FIR, None, {"up": 4, "padding": 2, "slope": -0.3}),
    ):
        gradcheck(lambda x, b, fu=fu, fd=fd, k=kwargs: filtered_lrelu(x, fu, fd, b, **k), randn(*shape, layout=layout), randn(shape[1]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradgradcheck(implementation, layout):
    # made nonlinear between the kinks, or the second derivative would be zero
    gradgradcheck(lambda x, b: filtered_lrelu(x, FIR, RADIAL, b, 2, 2, 3).pow(3), randn(1, 3, 3, 2, layout=layout), randn(3))
    gradgradcheck(
        lambda x: filtered_lrelu(filtered_lrelu(x, RADIAL, None, None, 2, padding=2).square(), FIR, FIR, None, 1, 2, 5),
        randn(2, 1, 3, 3, layout=layout),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(native, layout):
    op, gradient = torch.ops.stylegan_ops.filtered_lrelu.default, torch.ops.stylegan_ops.filtered_lrelu_gradient.default
    for shape, b, up, down, padding in [
        ((2, 3, 4, 5), leaf(randn(3)), 2, 2, [5, 5, 5, 5]),
        ((2, 3, 1, 1), None, 2, 1, [4, 4, 4, 4]),
        ((0, 3, 4, 5), leaf(randn(3)), 1, 2, [3, 3, 3, 3]),
    ]:
        x, rest = leaf(randn(*shape, layout=layout)), (FIR.double(), RADIAL, b, up, down, padding, 1.4, 0.2, 0.9, False)
        torch.library.opcheck(op, (x, *rest))
        y = op(x, *rest)
        torch.library.opcheck(gradient, (leaf(randn(*y.shape, layout=layout)), x, *rest, True))
        torch.library.opcheck(gradient, (leaf(randn(*x.shape, layout=layout)), x, *rest, False))


def test_compiles(implementation):
    for layout in LAYOUTS:
        x = randn(2, 3, 4, 5, dtype=torch.float32, layout=layout)
        assert_compiles(lambda x: filtered_lrelu(x * 2, FIR, FIR, None, 2, 2, 5) + 1, "aot_eager", x)


@needs_compiler
def test_compiles_with_inductor(native):
    assert_compiles(lambda x: filtered_lrelu(x * 2, FIR, RADIAL, None, 2, 2, 5) + 1, "inductor", randn(2, 3, 4, 5, dtype=torch.float32))


def test_exports(implementation):
    node, x, b = "filtered_lrelu" if implementation == "native" else None, randn(2, 3, 4, 5), randn(3)
    assert_exports(lambda x, b: filtered_lrelu(x, FIR, FIR, b, 2, 2, 5), x.float(), b.float(), node=node)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_autocast(kernel, dtype):
    """The result does not change: no step of it runs in less precision."""
    x = randn(2, 3, 5, 5, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        y = filtered_lrelu(x, FIR, RADIAL, None, 2, 2, 5)
    assert y.dtype == dtype
    assert torch.equal(y, filtered_lrelu(x, FIR, RADIAL, None, 2, 2, 5))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_empty_batch(kernel, shape, layout):
    x, b = leaf(randn(*shape, layout=layout)), leaf(randn(shape[1]))
    y = filtered_lrelu(x, FIR, FIR, b, 2, 1, 5)
    assert y.shape == (*shape[:2], 8, 10)
    dx, db = grads(y, [x, b], torch.ones_like(y))
    assert dx.shape == x.shape and torch.equal(db, torch.zeros_like(b))


def test_non_dense_inputs(kernel):
    b = randn(6, dtype=torch.float32)[::2]
    for x in non_dense(randn(2, 3, 7, 5, dtype=torch.float32)).values():
        case = Case("", tuple(x.shape), FIR, RADIAL, 2, 1, (5, 4, 3, 5))
        truth = Truth(case, x, b)
        y = filtered_lrelu(x, b=b, **case.kwargs)
        assert_right(y, truth.y, dtype=x.dtype, terms=case.terms, magnitude=truth.y_size)
        z, dy = leaf(x.contiguous()), randn(*reversed(y.shape), dtype=torch.float32).permute(3, 2, 1, 0)
        dx, size = truth.dx(dy)
        got = grads(filtered_lrelu(z, b=b, **case.kwargs), [z], dy)[0]
        assert_right(got, dx, dtype=x.dtype, terms=case.terms, magnitude=size)


def test_a_step_longer_than_the_image_keeps_one_pixel(kernel):
    x = leaf(randn(1, 2, 4, 5))
    y = filtered_lrelu(x, down=2**40, slope=1.0, gain=1.0)
    assert torch.equal(y, x[:, :, :1, :1])
    (dx,) = grads(y, [x], torch.ones_like(y))
    assert dx.sum() == dx[:, :, 0, 0].sum() == 2


X = torch.zeros(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (TypeError, "x must be a tensor (got NoneType)", {"x": None}),
        (TypeError, "x must be of a floating-point dtype (got torch.uint8)", {"x": X.byte()}),
        (ValueError, "x must have 4 dimensions (got shape (3, 4, 5))", {"x": X[0]}),
        (TypeError, "fu must be a tensor (got list)", {"fu": [1.0, 1.0]}),
        (TypeError, "fd must be of a floating-point dtype (got torch.int64)", {"fd": torch.ones(3, dtype=torch.int64)}),
        (ValueError, "fd must have shape [K] or [K_h, K_w] with at least 1 tap (got shape (1, 1, 3))", {"fd": torch.ones(1, 1, 3)}),
        (ValueError, "fu must not require a gradient (got requires_grad=True)", {"fu": torch.ones(3, requires_grad=True)}),
        (ValueError, "fd must be on the device of the image, cpu (got meta)", {"fd": torch.ones(3, device="meta")}),
        (ValueError, "fu must fit into the padded image of 4 x 5 pixels (got 5 x 3 taps)", {"fu": torch.ones(5, 3)}),
        (ValueError, "fd must fit into the fine image of 2 x 3 pixels (got 3 x 3 taps)", {"fu": torch.ones(3), "fd": torch.ones(3)}),
        (ValueError, "b must have shape [3], the length of the channels of the image (got shape (2,))", {"b": torch.zeros(2)}),
        (ValueError, "b must be on the device of the image, cpu (got meta)", {"b": torch.zeros(3, device="meta")}),
        (ValueError, "up must be at least 1 (got 0)", {"up": 0}),
        (TypeError, "up must be an integer (got [2, 2])", {"up": [2, 2]}),
        (TypeError, "down must be an integer (got 1.5)", {"down": 1.5}),
        (TypeError, "down must be an integer (got True)", {"down": True}),
        (TypeError, "padding must consist of integers (got [1.0, 0])", {"padding": [1.0, 0]}),
        (ValueError, "padding (-9, 0, 0, 0) crops the whole image (height 4, width 5)", {"padding": [-9, 0, 0, 0]}),
        (TypeError, "gain must be a real number (got '4')", {"gain": "4"}),
        (TypeError, "slope must be a real number (got None)", {"slope": None}),
        (ValueError, "clamp must be None or at least 0 (got -1.0)", {"clamp": -1.0}),
        (TypeError, "flip_filter must be True or False (got 1)", {"flip_filter": 1}),
        (ValueError, "impl must be one of auto, native, reference (got 'cuda')", {"impl": "cuda"}),
    ],
)
def test_rejects_arguments(implementation, error, message, kwargs):
    assert_rejects(error, f"filtered_lrelu: {message}", filtered_lrelu, **{"x": X, **kwargs})


def test_calls_past_the_public_function_stay_in_memory(native):
    op, gradient = torch.ops.stylegan_ops.filtered_lrelu, torch.ops.stylegan_ops.filtered_lrelu_gradient
    rest = (FIR, FIR, None, 2, 2, [5, 5, 5, 5], 1.0, 0.2, -1.0, False)
    with pytest.raises(RuntimeError, match="b must have 3 elements"):
        op(X, FIR, FIR, torch.zeros(2), *rest[3:])
    with pytest.raises(RuntimeError, match="v must be like the image"):
        gradient(X[:, :, :3].contiguous(), X, *rest, False)
    with pytest.raises(RuntimeError, match="v must be like the result"):
        gradient(X.double(), X, *rest, True)
