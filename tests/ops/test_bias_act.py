"""bias_act in the tests that all rooms share; its activations and edges are in test_bias_act_activations.py."""

import pytest
import torch
from closed_forms import ACTS, SMOOTH, Expected, activate
from support import (
    DTYPES,
    ELEMENTARY,
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
    leaf,
    needs_compiler,
    non_dense,
    randn,
)

from stylegan_ops import bias_act

TERMS = 2 + 2 * ELEMENTARY  # bias, gain, and an activation of up to two elementary functions

# shape and dim; 512 elements are a block of the kernels, and 16384 a work item
CASES = [
    ((1, 1, 1, 1), 1),
    ((2, 7, 5, 3), 1),
    ((2, 3, 33, 33), 1),
    ((2, 129, 1, 7), 1),
    ((1, 600, 3, 5), 1),
    ((1, 33, 33, 33), 1),
    ((2, 3, 4, 7), 0),
    ((2, 3, 4, 7), -1),
    ((129, 33), 1),
    ((2, 3, 7), 1),
    ((7,), 0),
    ((2, 3, 2, 3, 3), 2),
]
IMAGES = [case for case in CASES if len(case[0]) == 4]


def make(shape, dim, dtype, layout=torch.contiguous_format):
    """x and a bias in the accumulation dtype."""
    return randn(*shape, dtype=dtype, layout=layout), randn(shape[dim], dtype=accumulate(dtype))


def add(x, b, dim):
    return x.double() + b.double().reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])


def sum_but(t, dim):
    return t.movedim(dim, 0).flatten(1).sum(1) if t.ndim > 1 else t


def assert_derivatives(x, b, dim, act, clamp, dy):
    """y, dx and db against the closed forms."""
    dtype, z = x.dtype, add(x, b, dim)
    expected = Expected(z, x.double().abs() + z.abs(), dtype, act, clamp=clamp)
    x, b, size = leaf(x), leaf(b), dy.double().abs()
    y = bias_act(x, b, dim, act, clamp=clamp)
    assert_right(y, expected.y, dtype=dtype, terms=TERMS, magnitude=expected.y_size)
    dx, db = grads(y, [x, b], dy)
    wanted, inner = expected.slope * dy.double(), expected.slope_inner * size
    assert_right(dx, wanted, dtype=dtype, terms=TERMS, magnitude=expected.slope_size * size, inner=inner, where=~expected.doubtful)

    # The sum is taken in A, of terms whose slope may be off by a rounding to T, or by all of it at the clamp.
    eps = torch.finfo(accumulate(dtype)).eps
    magnitude = (expected.slope_size + expected.slope_inner * torch.finfo(dtype).eps / eps + expected.jump / eps) * size
    assert db.dtype == accumulate(dtype)
    terms = TERMS + z.numel() // db.numel()
    assert_right(db, sum_but(wanted, dim), dtype=accumulate(dtype), terms=terms, magnitude=sum_but(magnitude, dim))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_matches_float64_reference(kernel, case, dtype):
    shape, dim = CASES[case]
    for i, act in enumerate(ACTS):  # every activation in both layouts, with and without a clamp; 0.7 is none of the 16-bit numbers
        layout, clamp = LAYOUTS[(case + i) % 2], (None, 0.7)[(case // 2 + i) % 2]
        x, b = make(shape, dim, dtype, layout)
        assert_derivatives(x, b, dim, act, clamp, randn(*shape, dtype=dtype, layout=layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", ACTS)
def test_gradcheck(implementation, act, layout):
    x, b = randn(2, 3, 3, 3, layout=layout), randn(3)
    gradcheck(lambda x, b: bias_act(x, b, act=act, gain=1.3, clamp=0.9), x, b)
    gradcheck(lambda x, b: bias_act(x, b, dim=-1, act=act, alpha=-0.3), x, b)
    gradcheck(lambda x: bias_act(x, act=act, gain=-0.7), x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", ACTS)
def test_gradgradcheck(implementation, act, layout):
    x, b = randn(2, 3, 1, 3, layout=layout), randn(3)
    gradgradcheck(lambda x, b: bias_act(x, b, act=act, gain=1.3, clamp=0.9), x, b)
    gradgradcheck(lambda x, b: bias_act(x, b, dim=-1, act=act, alpha=-0.3), x, b)
    gradgradcheck(lambda x: bias_act(x, act=act, gain=-0.7), x)


def test_second_derivative_of_a_piecewise_linear_activation_is_zero(implementation):
    for alpha in (0.2, -0.3):
        x = randn(2, 3, 4, 5).requires_grad_()
        (dx,) = torch.autograd.grad(bias_act(x, act="lrelu", alpha=alpha).sum(), x, create_graph=True)
        if dx.requires_grad:
            assert not torch.autograd.grad(dx.sum(), x)[0].any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(native, layout):
    op, backward = torch.ops.stylegan_ops.bias_act.default, torch.ops.stylegan_ops.bias_act_backward.default
    for shape, act, clamp in [((2, 3, 4, 5), 5, -1.0), ((2, 3, 1, 1), 8, 0.5), ((2, 1, 3, 3), 2, -1.0), ((0, 3, 4, 5), 3, -1.0)]:
        x, b, dy = leaf(randn(*shape, layout=layout)), leaf(randn(shape[1])), leaf(randn(*shape, layout=layout))
        torch.library.opcheck(op, (x, b, 1, act, 0.2, 1.5, clamp))
        torch.library.opcheck(op, (x, None, 1, act, 0.2, 1.5, clamp))
        torch.library.opcheck(backward, (dy, x, 1, act, 0.2, 1.5, clamp, 0, True))
        torch.library.opcheck(backward, (dy, x, 1, act, 0.2, 1.5, clamp, 1, False))
    torch.library.opcheck(op, (leaf(randn(3, 4, dtype=torch.bfloat16)), None, 1, 0, 0.0, 1.0, -1.0))
    torch.library.opcheck(backward, (leaf(randn(3, 4)), None, 0, 0, 0.0, 2.0, -1.0, 0, True))


def compiled_case(x, b):
    return bias_act(x * 2, b, act="swish", clamp=1.0) + 1


def test_compiles(implementation):
    for layout in LAYOUTS:
        assert_compiles(compiled_case, "aot_eager", randn(2, 3, 4, 5, dtype=torch.float32, layout=layout), randn(3, dtype=torch.float32))


@needs_compiler
def test_compiles_with_inductor(native):
    assert_compiles(compiled_case, "inductor", randn(2, 3, 4, 5, dtype=torch.float32), randn(3, dtype=torch.float32))


def test_exports(implementation):
    x, b = randn(2, 3, 4, 5, dtype=torch.float32), randn(3, dtype=torch.float32)
    node = "bias_act" if implementation == "native" else None
    assert_exports(lambda x, b: bias_act(x, b, act="lrelu", clamp=1.0), x, b, node=node)


def test_autocast(kernel):
    x, b = make((2, 3, 4, 5), 1, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = bias_act(x, b, act="tanh")
    assert y.dtype == torch.float32
    assert torch.equal(y, bias_act(x, b, act="tanh"))


def test_takes_a_bias_of_another_dtype(kernel):
    x = randn(2, 7, 5, 3, dtype=torch.bfloat16)
    for dtype in DTYPES:
        b = leaf(randn(7, dtype=dtype))
        y = bias_act(x, b, act="lrelu")
        assert y.dtype == x.dtype
        assert_right(y, activate(add(x, b.detach(), 1), "lrelu")[0], dtype=x.dtype, terms=TERMS, magnitude=x.double().abs() + 4)
        assert grads(y, [b], torch.ones_like(y))[0].dtype == dtype


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)])
def test_empty_batch(kernel, shape, layout):
    x, b = leaf(randn(*shape, layout=layout)), leaf(randn(shape[1]))
    y = bias_act(x, b, act="tanh")
    assert y.shape == x.shape
    dx, db = grads(y, [x, b], torch.ones_like(y))
    assert dx.shape == x.shape
    assert torch.equal(db, torch.zeros(shape[1], dtype=torch.float64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_keeps_layout(kernel, layout, dtype):
    for shape, dim in IMAGES:
        x, b = make(shape, dim, dtype, layout)
        y = bias_act(leaf(x), b, dim, "swish")
        assert y.dtype == dtype
        assert_same_layout(y, x)
        for dy_layout in LAYOUTS:  # the gradient lies as x does, whatever comes from behind
            x = leaf(x)
            assert_same_layout(grads(bias_act(x, b, dim, "lrelu"), [x], randn(*shape, dtype=dtype, layout=dy_layout))[0], x)


def test_non_dense_inputs(kernel):
    for name, x in non_dense(randn(2, 3, 7, 5, dtype=torch.float32)).items():
        for b in (randn(6, dtype=torch.float32)[::2], randn(1, dtype=torch.float32).expand(3)):
            for act in ("lrelu", *SMOOTH[:1]):
                assert not x.is_contiguous() and not x.is_contiguous(memory_format=torch.channels_last), name
                assert_derivatives(x, b, 1, act, None, randn(5, 7, 3, 2, dtype=torch.float32).permute(3, 2, 1, 0))


def test_input_stays_as_it_was(kernel):
    x, b = make((2, 7, 5, 3), 1, torch.float32)
    before = x.clone(), b.clone()
    bias_act(x, b, act="relu", clamp=0.1)
    assert torch.equal(x, before[0]) and torch.equal(b, before[1])


@pytest.mark.parametrize("shape", [(), (5,)])
def test_without_bias_the_dimension_is_of_no_meaning(implementation, shape):
    x = randn(*shape)
    assert torch.equal(bias_act(x, act="relu", gain=1), x.relu())


X = torch.zeros(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (ValueError, "bias_act: dim must be within the 4 dimensions of x (got 4)", {"b": torch.zeros(5), "dim": 4}),
        (ValueError, "bias_act: dim must be within the 4 dimensions of x (got -5)", {"b": torch.zeros(5), "dim": -5}),
        (TypeError, "bias_act: dim must be an integer (got 1.0)", {"dim": 1.0}),
        (ValueError, "bias_act: b must have shape [3], the length of dimension 1 of x (got shape (4,))", {"b": torch.zeros(4)}),
        (ValueError, "bias_act: b must have shape [3], the length of dimension 1 of x (got shape (1, 3))", {"b": torch.zeros(1, 3)}),
        (ValueError, "bias_act: b must have shape [5], the length of dimension 3 of x (got shape (3,))", {"b": torch.zeros(3), "dim": -1}),
        (TypeError, "bias_act: b must be of a floating-point dtype (got torch.int64)", {"b": torch.zeros(3, dtype=torch.int64)}),
        (TypeError, "bias_act: b must be a tensor (got list)", {"b": [0.0, 0.0, 0.0]}),
        (ValueError, "bias_act: b must be on the device of the image, cpu (got meta)", {"b": torch.zeros(3, device="meta")}),
        (
            ValueError,
            "bias_act: act must be one of linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus, swish (got 'gelu')",
            {"act": "gelu"},
        ),
        (TypeError, "bias_act: alpha must be a real number (got '0.2')", {"alpha": "0.2"}),
        (TypeError, "bias_act: gain must be a real number (got True)", {"gain": True}),
        (TypeError, "bias_act: clamp must be a real number (got [1])", {"clamp": [1]}),
        (ValueError, "bias_act: clamp must be None or at least 0 (got -1)", {"clamp": -1}),
        (ValueError, "bias_act: clamp must be None or at least 0 (got nan)", {"clamp": float("nan")}),
        (ValueError, "bias_act: impl must be one of auto, native, reference (got 'cuda')", {"impl": "cuda"}),
    ],
)
def test_rejects_arguments(implementation, error, message, kwargs):
    assert_rejects(error, message, bias_act, X, **kwargs)


def test_rejects_images(implementation):
    assert_rejects(TypeError, "bias_act: x must be a tensor (got float)", bias_act, 1.0)
    assert_rejects(TypeError, "bias_act: x must be of a floating-point dtype (got torch.int32)", bias_act, X.int())
    assert_rejects(TypeError, "bias_act: x must be of a floating-point dtype (got torch.complex64)", bias_act, X.cfloat())
    assert_rejects(ValueError, "bias_act: dim must be within the 0 dimensions of x (got 0)", bias_act, X.sum(), X[0, :, 0, 0], 0)
