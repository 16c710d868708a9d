"""conv_epilogue against its formula, and in the tests that all rooms share; its sums are in test_conv_epilogue_sums.py."""

import pytest
import torch
from closed_forms import ACTS, Expected
from epilogue_operands import COMBINATIONS, SHAPES, TERMS, Operands
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
    leaf,
    needs_compiler,
    non_dense,
    randn,
)

from stylegan_ops import conv_epilogue


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_float64_reference(kernel, shape, dtype):
    for i, (combination, act) in enumerate(zip(COMBINATIONS, (ACTS * 2)[: len(COMBINATIONS)], strict=True)):
        operands = Operands(shape, dtype, LAYOUTS[i % 2], *combination)
        for clamp in (None, 0.7):
            z, size = operands.argument()
            expected = Expected(z, size, dtype, act, clamp=clamp)
            out = conv_epilogue(*operands.all, act=act, clamp=clamp)
            assert out.dtype == dtype
            assert_same_layout(out, operands.all[0])
            assert_right(out, expected.y, dtype=dtype, terms=TERMS, magnitude=expected.y_size)


def checked_functions(layout):
    """Functions of all operands and of few, tiny, with the tensors to differentiate."""
    y, scale, bias = randn(2, 3, 2, 3, layout=layout), randn(2, 3), randn(3)
    per_sample, shared, strength = randn(2, 1, 2, 3), randn(2, 3), randn(1)
    yield lambda act: lambda *t: conv_epilogue(*t, act, gain=1.3, clamp=0.9), (y, scale, per_sample, strength, bias)
    yield lambda act: lambda y, scale, noise: conv_epilogue(y, scale, noise, 0.7, act=act, alpha=-0.3), (y, scale, shared)
    yield lambda act: lambda y, noise, bias: conv_epilogue(y, None, noise, None, bias, act), (y, shared[None, None], bias)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", ACTS)
def test_gradcheck(implementation, act, layout):
    for function, inputs in checked_functions(layout):
        gradcheck(function(act), *inputs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", ACTS)
def test_gradgradcheck(implementation, act, layout):
    for function, inputs in checked_functions(layout):
        gradgradcheck(function(act), *inputs)


def test_gradgradcheck_of_some_operands(implementation):
    """Whichever operands ask for their gradient, alone and in pairs."""
    tensors = [randn(2, 3, 1, 2), randn(2, 3), randn(1, 1, 1, 2), randn(), randn(3)]
    for wanted in [(0,), (1,), (2,), (3,), (4,), (1, 2), (0, 3), (3, 4), (2, 4)]:

        def some(*values, wanted=wanted):
            full = list(tensors)
            for i, value in zip(wanted, values, strict=True):
                full[i] = value
            return conv_epilogue(*full, act="tanh")

        gradcheck(some, *(tensors[i] for i in wanted))
        gradgradcheck(some, *(tensors[i] for i in wanted))


@pytest.mark.parametrize("act", ["tanh", "swish"])
def test_third_derivative(implementation, act):
    """The gradient of a second derivative in y, by finite differences."""
    scale, noise, bias = randn(1, 2), randn(1, 3), randn(2)

    def second(y):
        (dy,) = torch.autograd.grad(conv_epilogue(y, scale, noise, 0.5, bias, act).pow(3).sum(), y, create_graph=True)
        return torch.autograd.grad(dy.pow(2).sum(), y, create_graph=True)[0]

    gradcheck(second, randn(1, 2, 1, 3))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(native, layout):
    op, backward = torch.ops.stylegan_ops.conv_epilogue.default, torch.ops.stylegan_ops.conv_epilogue_backward.default
    for (n, c, h, w), act, clamp in [((2, 3, 4, 5), 5, -1.0), ((2, 3, 1, 1), 8, 0.5), ((0, 3, 4, 5), 3, -1.0)]:
        y, out, dout = (leaf(randn(n, c, h, w, layout=layout)) for _ in range(3))
        scale, noise, strength, bias = leaf(randn(n, c)), leaf(randn(1, 1, h, w)), leaf(randn()), leaf(randn(c))
        torch.library.opcheck(op, (y, scale, noise, strength, bias, act, 0.0, 1.5, clamp))
        torch.library.opcheck(op, (y, None, None, None, None, act, 0.0, 1.5, clamp))
        torch.library.opcheck(backward, (dout, out, y, scale, noise, strength, None, act, 0.0, 1.5, clamp, 15))
        torch.library.opcheck(backward, (dout, None, y, scale, None, None, None, 0, 0.0, 1.0, -1.0, 1))
        torch.library.opcheck(backward, (dout, out, None, scale, noise, strength, bias, 2, 0.2, 1.5, clamp, 15))
    half = leaf(randn(2, 3, 4, 5, dtype=torch.bfloat16, layout=layout))
    torch.library.opcheck(op, (half, None, None, None, leaf(randn(3, dtype=torch.float32)), 2, 0.2, 1.5, -1.0))


def compiled_case(y, scale, noise, strength, bias):
    return conv_epilogue(y * 2, scale, noise, strength, bias, act="lrelu", clamp=2.0) + 1


def compiled_inputs(layout):
    shapes = (2, 3), (4, 5), (), (3,)
    return randn(2, 3, 4, 5, dtype=torch.float32, layout=layout), *(randn(*shape, dtype=torch.float32) for shape in shapes)


def test_compiles(implementation):
    for layout in LAYOUTS:
        assert_compiles(compiled_case, "aot_eager", *compiled_inputs(layout))


@needs_compiler
def test_compiles_with_inductor(native):
    assert_compiles(compiled_case, "inductor", *compiled_inputs(torch.channels_last))


def test_exports(implementation):
    node = "conv_epilogue" if implementation == "native" else None
    assert_exports(compiled_case, *compiled_inputs(torch.contiguous_format), node=node)


def test_autocast(kernel):
    operands = Operands((2, 3, 4, 5), torch.float32, torch.contiguous_format, True, "shared", "tensor", True).all
    with torch.autocast("cpu", torch.bfloat16):
        y = conv_epilogue(*operands, act="tanh")
    assert y.dtype == torch.float32
    assert torch.equal(y, conv_epilogue(*operands, act="tanh"))


def test_takes_operands_of_other_dtypes(kernel):
    y = randn(2, 3, 4, 5, dtype=torch.bfloat16)
    for dtype in DTYPES:
        others = [leaf(randn(*shape, dtype=dtype)) for shape in ((2, 3), (4, 5), (1,), (3,))]
        out = conv_epilogue(y, *others, act="lrelu")
        assert out.dtype == y.dtype
        rounded = [t.detach().float() for t in others]
        assert torch.equal(out, conv_epilogue(y, *rounded, act="lrelu"))
        for t, gradient in zip(others, grads(out, others, torch.ones_like(out)), strict=True):
            assert gradient.dtype == dtype and gradient.shape == t.shape


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)])
@pytest.mark.parametrize("act", ["linear", "lrelu", "swish"])
def test_empty_batch(kernel, act, shape, layout):
    n, c, h, w = shape
    inputs = [leaf(t) for t in (randn(*shape, layout=layout), randn(n, c), randn(1, 1, h, w), randn(1), randn(c))]
    out = conv_epilogue(*inputs, act=act)
    assert out.shape == shape
    for t, gradient in zip(inputs, grads(out, inputs, torch.ones_like(out)), strict=True):
        assert torch.equal(gradient, torch.zeros_like(t))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_keeps_layout(kernel, layout, dtype):
    for shape in SHAPES:
        y, scale = leaf(randn(*shape, dtype=dtype, layout=layout)), randn(*shape[:2], dtype=accumulate(dtype))
        for act in ("linear", "lrelu", "swish"):
            out = conv_epilogue(y, scale, act=act)
            assert_same_layout(out, y)
            for dout_layout in LAYOUTS if kernel != "reference" else ():  # PyTorch's own formulas follow dout
                dout = randn(*shape, dtype=dtype, layout=dout_layout)
                assert_same_layout(grads(conv_epilogue(y, scale, act=act), [y], dout)[0], y)


def test_non_dense_inputs(kernel):
    for y in non_dense(randn(2, 3, 7, 5, dtype=torch.float32)).values():
        wide = Operands((2, 6, 7, 10), torch.float32, torch.contiguous_format, True, "per sample", "tensor", True).all
        views = y, wide[1][:, ::2], wide[2][..., ::2], wide[3].expand(2)[:1], wide[4][::2]
        dense = [leaf(t.contiguous()) for t in views]
        views = [t.detach().requires_grad_() for t in views]
        wanted, got = (conv_epilogue(*t, act="tanh") for t in (dense, views))
        torch.testing.assert_close(got, wanted)
        dout = randn(5, 7, 3, 2, dtype=torch.float32).permute(3, 2, 1, 0)
        for a, b in zip(grads(got, views, dout), grads(wanted, dense, dout.contiguous()), strict=True):
            torch.testing.assert_close(a, b)


Y = torch.zeros(2, 3, 4, 5)
ACT_NAMES = "linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus, swish"


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (ValueError, "scale must have shape [N, C] = [2, 3] (got shape (3,))", {"scale": torch.ones(3)}),
        (ValueError, "scale must have shape [N, C] = [2, 3] (got shape (3, 2))", {"scale": torch.ones(3, 2)}),
        (TypeError, "scale must be a tensor (got float)", {"scale": 1.0}),
        (ValueError, "scale must be on the device of the image, cpu (got meta)", {"scale": torch.ones(2, 3, device="meta")}),
        (ValueError, "noise must have shape [2, 1, 4, 5], [1, 1, 4, 5] or [4, 5] (got shape (5, 4))", {"noise": torch.ones(5, 4)}),
        (ValueError, "noise must have shape [2, 1, 4, 5], [1, 1, 4, 5] or [4, 5] (got shape (2, 3, 4, 5))", {"noise": Y}),
        (TypeError, "noise must be of a floating-point dtype (got torch.int64)", {"noise": torch.ones(4, 5, dtype=torch.int64)}),
        (ValueError, "noise must be on the device of the image, cpu (got meta)", {"noise": torch.ones(4, 5, device="meta")}),
        (ValueError, "noise_strength needs noise (got noise=None)", {"noise_strength": 1.0}),
        (ValueError, "noise_strength must have 1 element (got shape (3,))", {"noise": Y[:, :1], "noise_strength": torch.ones(3)}),
        (
            TypeError,
            "noise_strength must be real (got torch.complex64)",
            {"noise": Y[:, :1], "noise_strength": torch.ones(1, dtype=torch.complex64)},
        ),
        (TypeError, "noise_strength must be a real number (got '1')", {"noise": Y[:, :1], "noise_strength": "1"}),
        (ValueError, "bias must have shape [3], the length of the channels of the image (got shape (4,))", {"bias": torch.ones(4)}),
        (TypeError, "bias must be a tensor (got int)", {"bias": 0}),
        (ValueError, f"act must be one of {ACT_NAMES} (got None)", {"act": None}),
        (TypeError, "gain must be a real number (got '2')", {"gain": "2"}),
        (ValueError, "clamp must be None or at least 0 (got -0.5)", {"clamp": -0.5}),
        (ValueError, "impl must be one of auto, native, reference (got 'ref')", {"impl": "ref"}),
    ],
)
def test_rejects_arguments(implementation, error, message, kwargs):
    assert_rejects(error, f"conv_epilogue: {message}", conv_epilogue, Y, **kwargs)


def test_rejects_images(implementation):
    assert_rejects(TypeError, "conv_epilogue: y must be a tensor (got list)", conv_epilogue, [1.0])
    assert_rejects(TypeError, "conv_epilogue: y must be of a floating-point dtype (got torch.int32)", conv_epilogue, Y.int())
    assert_rejects(ValueError, "conv_epilogue: y must have 4 dimensions (got shape (3, 4, 5))", conv_epilogue, Y[0])
