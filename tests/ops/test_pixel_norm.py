"""pixel_norm against its formula in numpy, and in the tests that all rooms share."""

import numpy as np
import pytest
import torch
from support import (
    DTYPES,
    ELEMENTARY,
    LAYOUTS,
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

from stylegan_ops import pixel_norm

# shape and dim; 512 channels or positions are a block of the kernels
CASES = [
    ((1, 1, 1, 1), 1),
    ((2, 7, 3, 5), 1),
    ((2, 3, 33, 33), 1),
    ((2, 129, 7, 1), 1),
    ((1, 600, 5, 5), 1),
    ((2, 1, 7, 7), 1),
    ((33, 129), 1),
    ((3, 600), -1),
    ((129,), 0),
    ((2, 3, 7, 33), 0),
    ((2, 3, 7, 33), -1),
    ((2, 3, 7, 33), 2),
    ((2, 7, 3, 2, 3), 1),
    ((2, 3, 7), 1),
]


def formula(x, dim, eps, dy=None):
    """y, or dx for dy, by numpy in float64; and the sum of the absolute values of their terms."""
    x = x.double().numpy()
    r = 1 / np.sqrt(np.mean(x**2, axis=dim, keepdims=True) + eps)
    if dy is None:
        y = x * r
        return torch.from_numpy(y), torch.from_numpy(np.abs(y))
    dy = dy.double().numpy()
    dx = r * dy - r**3 * x * np.mean(x * dy, axis=dim, keepdims=True)
    size = r * np.abs(dy) + r**3 * np.abs(x) * np.mean(np.abs(x * dy), axis=dim, keepdims=True)
    return torch.from_numpy(dx), torch.from_numpy(size)


def assert_values_and_gradient(x, dim, eps, dy):
    terms = 2 * x.shape[dim] + 2 * ELEMENTARY  # two sums over the channels, a root, a division
    y, size = formula(x, dim, eps)
    dx, dx_size = formula(x, dim, eps, dy)
    z = leaf(x)
    got = pixel_norm(z, dim, eps)
    assert got.dtype == x.dtype
    assert_right(got, y, dtype=x.dtype, terms=terms, magnitude=size)
    assert_right(grads(got, [z], dy)[0], dx, dtype=x.dtype, terms=terms, magnitude=dx_size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dim"), CASES)
def test_matches_float64_reference(kernel, shape, dim, dtype):
    for layout, eps in zip(LAYOUTS, (1e-8, 0.1), strict=True):
        x = randn(*shape, dtype=dtype, layout=layout)
        for dy_layout in LAYOUTS:
            assert_values_and_gradient(x, dim, eps, randn(*shape, dtype=dtype, layout=dy_layout))


def test_default_eps_and_dim(kernel):
    x = randn(3, 7) * 1e-4  # small enough for eps to show
    assert_right(pixel_norm(x), formula(x, 1, 1e-8)[0], dtype=x.dtype, terms=20)
    assert (pixel_norm(x) - formula(x, 1, 1e-7)[0]).abs().max() > 0.01


def test_zero_vectors(kernel):
    x = leaf(torch.zeros(2, 3, 3, 3, dtype=torch.float64))
    y = pixel_norm(x, eps=0.25)
    (dx,) = grads(y, [x], torch.ones_like(y), create_graph=True)
    assert torch.equal(y, torch.zeros_like(y))
    assert torch.equal(dx, torch.full_like(y, 2.0))
    assert torch.equal(grads(dx, [x], torch.ones_like(y))[0], torch.zeros_like(y))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradcheck(implementation, layout):
    for shape, dim in [((2, 3, 3, 3), 1), ((1, 7, 1, 5), 1), ((2, 3, 3, 3), -1), ((7, 5), 1), ((5,), 0)]:
        gradcheck(lambda x, dim=dim: pixel_norm(x, dim, eps=0.1), randn(*shape, layout=layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradgradcheck(implementation, layout):
    for shape, dim in [((2, 3, 1, 3), 1), ((1, 7, 1, 5), 1), ((2, 3, 3, 1), 0), ((7, 3), 1)]:
        gradgradcheck(lambda x, dim=dim: pixel_norm(x, dim, eps=0.1), randn(*shape, layout=layout))


def test_third_derivative(implementation):
    """The gradient of a second derivative, by finite differences."""

    def second(x):
        (dx,) = torch.autograd.grad(pixel_norm(x, eps=0.1).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(dx.pow(2).sum(), x, create_graph=True)[0]

    gradcheck(second, randn(2, 3, 1, 2))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(native, layout):
    op, backward = torch.ops.stylegan_ops.pixel_norm.default, torch.ops.stylegan_ops.pixel_norm_backward.default
    for shape, dim in [((2, 3, 4, 5), 1), ((2, 3, 1, 1), 1), ((2, 3, 4, 5), 3), ((0, 3, 4, 5), 1), ((3, 7), 1)]:
        x, dy = leaf(randn(*shape, layout=layout)), leaf(randn(*shape))
        torch.library.opcheck(op, (x, dim, 1e-8))
        torch.library.opcheck(backward, (dy, x, dim, 1e-8))


def compiled_case(x):
    return pixel_norm(x * 2) + 1


def test_compiles(implementation):
    for layout in LAYOUTS:
        assert_compiles(compiled_case, "aot_eager", randn(2, 3, 4, 5, dtype=torch.float32, layout=layout))


@needs_compiler
def test_compiles_with_inductor(native):
    assert_compiles(compiled_case, "inductor", randn(3, 7, dtype=torch.float32))


def test_exports(implementation):
    x = randn(2, 3, 4, 5, dtype=torch.float32)
    assert_exports(lambda x: pixel_norm(x), x, node="pixel_norm" if implementation == "native" else None)


def test_autocast(kernel):
    x = randn(2, 7, 3, 3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = pixel_norm(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, pixel_norm(x))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)])
def test_empty_batch(kernel, shape, layout):
    x = leaf(randn(*shape, layout=layout))
    y = pixel_norm(x)
    assert y.shape == x.shape
    assert grads(y, [x], torch.ones_like(y))[0].shape == x.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_keeps_layout(kernel, layout, dtype):
    for shape, dim in [case for case in CASES if len(case[0]) == 4]:
        x = leaf(randn(*shape, dtype=dtype, layout=layout))
        y = pixel_norm(x, dim)
        assert_same_layout(y, x)
        for dy_layout in LAYOUTS if kernel != "reference" else ():  # PyTorch's own formulas follow dy
            assert_same_layout(grads(pixel_norm(x, dim), [x], randn(*shape, dtype=dtype, layout=dy_layout))[0], x)


def test_non_dense_inputs(kernel):
    for x in non_dense(randn(2, 3, 7, 5, dtype=torch.float32)).values():
        for dim in (1, 2):
            assert_values_and_gradient(x, dim, 1e-8, randn(5, 7, 3, 2, dtype=torch.float32).permute(3, 2, 1, 0))
            assert_values_and_gradient(x, dim, 1e-8, torch.ones(1, 1, 1, 1).expand(2, 3, 7, 5))


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (ValueError, "pixel_norm: dim must be within the 4 dimensions of x (got 4)", {"dim": 4}),
        (ValueError, "pixel_norm: dim must be within the 4 dimensions of x (got -5)", {"dim": -5}),
        (TypeError, "pixel_norm: dim must be an integer (got '1')", {"dim": "1"}),
        (ValueError, "pixel_norm: eps must be greater than 0 (got 0.0)", {"eps": 0}),
        (ValueError, "pixel_norm: eps must be greater than 0 (got nan)", {"eps": float("nan")}),
        (TypeError, "pixel_norm: eps must be a real number (got '1e-8')", {"eps": "1e-8"}),
        (ValueError, "pixel_norm: impl must be one of auto, native, reference (got 'fast')", {"impl": "fast"}),
    ],
)
def test_rejects_arguments(implementation, error, message, kwargs):
    assert_rejects(error, message, pixel_norm, torch.zeros(2, 3, 4, 5), **kwargs)


def test_rejects_images(implementation):
    assert_rejects(TypeError, "pixel_norm: x must be a tensor (got list)", pixel_norm, [1.0])
    assert_rejects(TypeError, "pixel_norm: x must be of a floating-point dtype (got torch.int64)", pixel_norm, torch.zeros(2, 3).long())
    assert_rejects(ValueError, "pixel_norm: dim must be within the 0 dimensions of x (got 0)", pixel_norm, torch.tensor(1.0), 0)
