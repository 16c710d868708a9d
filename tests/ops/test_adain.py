"""adain against its formula in numpy and PyTorch's own instance norm, and in the tests that all rooms share."""

import pytest
import torch
import torch.nn.functional as F
from adain_definition import COMBINATIONS, EPS, SHAPES, Operands, Truth
from closed_forms import ACTS
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

from stylegan_ops import adain

SMALL = ("scale", "shift", "noise", "strength", "bias")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_float64_reference(kernel, shape, dtype):
    for i, combination in enumerate(COMBINATIONS):
        act, layout, eps = ACTS[(i + SHAPES.index(shape)) % len(ACTS)], LAYOUTS[i % 2], (EPS, 0.1)[i // 2 % 2]
        operands = Operands(shape, dtype, layout, *combination)
        truth = Truth(operands, act, gain=1.3, eps=eps)
        inputs = [leaf(t) if isinstance(t, torch.Tensor) else t for t in operands.all]
        y = adain(*inputs, act=act, gain=1.3, eps=eps)
        assert y.dtype == dtype
        assert_same_layout(y, inputs[0])
        assert_right(y, truth.y, dtype=dtype, terms=truth.terms, magnitude=truth.y_size)

        dy = randn(*shape, dtype=dtype, layout=LAYOUTS[i // 3 % 2])
        leaves = {name: t for name, t in zip(("x", *SMALL), inputs, strict=True) if isinstance(t, torch.Tensor)}
        expected = truth.gradients(dy)
        for (name, t), got in zip(leaves.items(), grads(y, list(leaves.values()), dy), strict=True):
            gradient, size = expected[name]
            if name == "strength" and t.numel() == 1:  # all channels share it
                gradient, size = gradient.sum()[None], size.sum()[None]
            terms = 3 * truth.terms + y.numel() // t.numel()
            of = dtype if name == "x" else accumulate(dtype)
            assert_right(got, gradient.reshape(t.shape), dtype=of, terms=terms, magnitude=size.reshape(t.shape))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 7, 33), (2, 129, 33, 1), (1, 7, 129, 129)])
def test_is_an_instance_norm_of_the_activation(kernel, shape, layout):
    x, noise, strength, bias = randn(*shape, layout=layout), randn(*shape[2:]), randn(shape[1]), randn(shape[1])
    scale, shift = randn(*shape[:2]), randn(*shape[:2])
    u = F.leaky_relu(x + noise * strength[:, None, None] + bias[:, None, None], 0.2)
    expected = F.instance_norm(u, eps=1e-5) * scale[:, :, None, None] + shift[:, :, None, None]
    torch.testing.assert_close(adain(x, scale, shift, noise, strength, bias, "lrelu", eps=1e-5), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 33, 129), (1, 600, 7, 5), (2, 33, 40, 40)])
def test_a_mean_far_beyond_the_deviation_does_not_cancel(native, shape, layout):
    """1000 standard deviations: E[u^2] - E[u]^2 would lose 20 of float32's 24 bits. The values themselves are exact."""
    x = in_layout(randn(*shape, dtype=torch.float32) + 1000, layout)
    dy = randn(*shape, dtype=torch.float32, layout=layout)
    results = {}
    for dtype in (torch.float32, torch.float64):
        z = leaf(x.to(dtype))
        y = adain(z, impl="reference" if dtype == torch.float64 else "native")
        results[dtype] = y, *grads(y, [z], dy.to(dtype))
    for got, truth in zip(*results.values(), strict=True):
        assert (got - truth).abs().max() < 16 * torch.finfo(torch.float32).eps * truth.abs().max()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_outlier_at_the_start_does_not_cancel(native, layout):
    """Sums are taken about the mean so far, and the first values of each plane are far from all others."""
    x = randn(2, 7, 33, 129, dtype=torch.float32)
    x[..., 0, :2] += 3000
    truth = adain(x.double(), impl="reference")
    y = adain(in_layout(x, layout))
    assert (y - truth).abs().max() < 16 * torch.finfo(torch.float32).eps * truth.abs().max()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("noise", ["shared", "per sample"])
def test_sums_over_many_work_items(native, noise, layout):
    """More than a work item in each sample, and planes of more than one in a sum over channels."""
    operands = [leaf(t) for t in Operands((2, 33, 65, 33), torch.float64, layout, True, True, noise, "channels", True).all]
    dy = randn(2, 33, 65, 33)
    results = []
    for impl in ("native", "reference"):
        y = adain(*operands, act="swish", impl=impl)
        results.append([y, *grads(y, operands, dy)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


def test_the_same_bits_with_any_number_of_threads(native):
    for layout in LAYOUTS:
        operands = [leaf(t) for t in Operands((3, 40, 65, 33), torch.float32, layout, True, True, "per sample", "channels", True).all]
        runs = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = adain(*operands, act="lrelu")
            runs.append([y, *grads(y, operands, torch.ones_like(y) + y.detach())])
        for other in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_samples_beyond_the_cache_are_taken_one_by_one(native):
    """channels_last: two groups of samples, forward and backward."""
    x = leaf(in_layout(randn(5, 64, 100, 100, dtype=torch.float32), torch.channels_last))
    y = adain(x)
    (dx,) = grads(y, [x], y.detach() ** 3)
    for i in (0, 2, 4):
        one = leaf(x[i : i + 1])
        alone = adain(one)
        assert torch.equal(alone, y[i : i + 1])
        assert torch.equal(grads(alone, [one], alone.detach() ** 3)[0], dx[i : i + 1])


def test_default_eps_and_gain(kernel):
    x = randn(2, 3, 7, 5) * 1e-4  # small enough for eps to show
    variance = x.var([2, 3], unbiased=False, keepdim=True)
    expected = (x - x.mean([2, 3], keepdim=True)) / (variance + 1e-8).sqrt()
    torch.testing.assert_close(adain(x), expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(adain(x, act="lrelu"), adain(x, act="lrelu", gain=1.0))


def test_constant_planes(kernel):
    for layout in LAYOUTS:
        x = leaf(in_layout(torch.full((2, 3, 5, 7), 0.1), layout))
        shift = randn(2, 3, dtype=torch.float32)
        y = adain(x, shift=shift, eps=0.25)
        torch.testing.assert_close(y, shift[:, :, None, None].expand_as(y), rtol=0, atol=1e-6)
        dy = randn(2, 3, 5, 7, dtype=torch.float32)
        torch.testing.assert_close(grads(y, [x], dy)[0], 2 * (dy - dy.mean([2, 3], keepdim=True)), rtol=1e-5, atol=1e-5)


def test_nan_stays_in_its_plane(kernel):
    for layout in LAYOUTS:
        x = in_layout(randn(2, 3, 33, 33, dtype=torch.float32), layout)
        x[1, 2, 32, 5] = torch.nan
        y = adain(x)
        assert y[1, 2].isnan().all() and y.isnan().sum() == 33 * 33


def checked_functions(layout):
    """Functions of all operands and of few, tiny, with the tensors to differentiate."""
    x, styles, bias = randn(2, 2, 1, 3, layout=layout), [randn(2, 2), randn(2, 2)], randn(2)
    per_sample, shared, strength, channels = randn(2, 1, 1, 3), randn(1, 3), randn(1), randn(2)
    yield lambda act: lambda *t: adain(*t, act, gain=1.3, eps=0.1), (x, *styles, per_sample, channels, bias)
    yield lambda act: lambda x, scale, noise: adain(x, scale, None, noise, 0.7, act=act, alpha=-0.3, eps=0.1), (x, styles[0], shared)
    yield lambda act: lambda x, noise, strength: adain(x, None, None, noise, strength, None, act, eps=0.1), (x, shared, strength)
    yield lambda act: lambda x: adain(x, act=act, eps=0.1), (x,)


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
    tensors = [randn(2, 3, 1, 3), randn(2, 3), randn(2, 3), randn(1, 1, 1, 3), randn(3), randn(3)]
    for wanted in [(0,), (1,), (2,), (3,), (4,), (5,), (1, 2), (0, 4), (3, 4), (1, 5), (2, 3)]:

        def some(*values, wanted=wanted):
            full = list(tensors)
            for i, value in zip(wanted, values, strict=True):
                full[i] = value
            return adain(*full, act="tanh", eps=0.1)

        gradcheck(some, *(tensors[i] for i in wanted))
        gradgradcheck(some, *(tensors[i] for i in wanted))


@pytest.mark.parametrize("act", ["lrelu", "tanh", "swish"])
def test_third_derivative(implementation, act):
    """The gradient of a second derivative in x, scale, noise, strength and bias, by finite differences."""

    def second(x, scale, noise, strength, bias):
        y = adain(x, scale, None, noise, strength, bias, act, eps=0.1)
        first = torch.autograd.grad(y.pow(3).sum(), (x, scale, noise, strength, bias), create_graph=True)
        return torch.autograd.grad(sum(g.pow(2).sum() for g in first), (x, strength), create_graph=True)

    gradcheck(second, randn(1, 2, 1, 3), randn(1, 2), randn(1, 3), randn(2), randn(2))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(native, layout):
    op, backward = torch.ops.stylegan_ops.adain.default, torch.ops.stylegan_ops.adain_backward.default
    for (n, c, h, w), act in [((2, 3, 4, 5), 5), ((2, 3, 1, 1), 8), ((0, 3, 4, 5), 3)]:
        x, dy = (leaf(randn(n, c, h, w, layout=layout)) for _ in range(2))
        scale, shift, noise, strength, bias = (leaf(randn(*size)) for size in ((n, c), (n, c), (1, 1, h, w), (c,), (c,)))
        torch.library.opcheck(op, (x, scale, shift, noise, strength, bias, act, 0.0, 1.5, 0.1))
        torch.library.opcheck(backward, (dy, x, scale, noise, strength, bias, act, 0.0, 1.5, 0.1, 31))
    x, dy, noise = leaf(randn(2, 3, 4, 5, layout=layout)), leaf(randn(2, 3, 4, 5, layout=layout)), leaf(randn(2, 1, 4, 5))
    torch.library.opcheck(op, (x, None, None, None, None, None, 2, 0.2, 1.0, 0.1))
    torch.library.opcheck(backward, (dy, x, None, noise, None, None, 0, 0.0, 1.0, 0.1, 4))
    half = leaf(randn(2, 3, 4, 5, dtype=torch.bfloat16, layout=layout))
    torch.library.opcheck(op, (half, None, None, None, None, leaf(randn(3, dtype=torch.float32)), 2, 0.2, 1.5, 0.1))


def compiled_case(x, scale, shift, noise, strength, bias):
    return adain(x * 2, scale, shift, noise, strength, bias, act="lrelu") + 1


def compiled_inputs(layout):
    shapes = (2, 3), (2, 3), (4, 5), (3,), (3,)
    return randn(2, 3, 4, 5, dtype=torch.float32, layout=layout), *(randn(*shape, dtype=torch.float32) for shape in shapes)


def test_compiles(implementation):
    for layout in LAYOUTS:
        assert_compiles(compiled_case, "aot_eager", *compiled_inputs(layout))


@needs_compiler
def test_compiles_with_inductor(native):
    assert_compiles(compiled_case, "inductor", *compiled_inputs(torch.channels_last))


def test_exports(implementation):
    node = "adain" if implementation == "native" else None
    assert_exports(compiled_case, *compiled_inputs(torch.contiguous_format), node=node)


def test_autocast(kernel):
    operands = Operands((2, 3, 4, 5), torch.float32, torch.contiguous_format, True, True, "shared", "tensor", True).all
    with torch.autocast("cpu", torch.bfloat16):
        y = adain(*operands, act="tanh")
    assert y.dtype == torch.float32
    assert torch.equal(y, adain(*operands, act="tanh"))


def test_takes_operands_of_other_dtypes(kernel):
    x = randn(2, 3, 4, 5, dtype=torch.bfloat16)
    for dtype in DTYPES:
        others = [leaf(randn(*shape, dtype=dtype)) for shape in ((2, 3), (2, 3), (4, 5), (3,), (3,))]
        y = adain(x, *others, act="lrelu")
        assert y.dtype == x.dtype
        rounded = [t.detach().float() for t in others]
        assert torch.equal(y, adain(x, *rounded, act="lrelu"))
        for t, gradient in zip(others, grads(y, others, torch.ones_like(y)), strict=True):
            assert gradient.dtype == dtype and gradient.shape == t.shape


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)])
@pytest.mark.parametrize("act", ["linear", "lrelu", "swish"])
def test_empty_batch(kernel, act, shape, layout):
    n, c, h, w = shape
    inputs = [leaf(t) for t in (randn(*shape, layout=layout), randn(n, c), randn(n, c), randn(1, 1, h, w), randn(1), randn(c))]
    y = adain(*inputs, act=act)
    assert y.shape == shape
    for t, gradient in zip(inputs, grads(y, inputs, torch.ones_like(y)), strict=True):
        assert torch.equal(gradient, torch.zeros_like(t))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_keeps_layout(kernel, layout, dtype):
    for shape in SHAPES:
        x = leaf(randn(*shape, dtype=dtype, layout=layout))
        assert_same_layout(adain(x, act="lrelu"), x)
        for dy_layout in LAYOUTS if kernel != "reference" else ():  # PyTorch's own formulas follow dy
            dy = randn(*shape, dtype=dtype, layout=dy_layout)
            assert_same_layout(grads(adain(x, act="lrelu"), [x], dy)[0], x)


def test_non_dense_inputs(kernel):
    for x in non_dense(randn(2, 3, 7, 5)).values():
        wide = Operands((2, 6, 7, 10), torch.float64, torch.contiguous_format, True, True, "per sample", "channels", True).all
        views = x, wide[1][:, ::2], wide[2][:, 1::2], wide[3][..., ::2], wide[4][:1].expand(3), wide[5][::2]
        dense = [leaf(t.contiguous()) for t in views]
        views = [t.detach().requires_grad_() for t in views]
        wanted, got = (adain(*t, act="tanh", eps=0.1) for t in (dense, views))
        torch.testing.assert_close(got, wanted)
        dy = randn(5, 7, 3, 2).permute(3, 2, 1, 0)
        for a, b in zip(grads(got, views, dy), grads(wanted, dense, dy.contiguous()), strict=True):
            torch.testing.assert_close(a, b)


X = torch.zeros(2, 3, 4, 5)
NOISE = X[:1, :1]
ACT_NAMES = "linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus, swish"


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (ValueError, "scale must have shape [N, C] = [2, 3] (got shape (3,))", {"scale": torch.ones(3)}),
        (ValueError, "shift must have shape [N, C] = [2, 3] (got shape (3, 2))", {"shift": torch.ones(3, 2)}),
        (TypeError, "scale must be a tensor (got float)", {"scale": 1.0}),
        (ValueError, "shift must be on the device of the image, cpu (got meta)", {"shift": torch.ones(2, 3, device="meta")}),
        (ValueError, "noise must have shape [2, 1, 4, 5], [1, 1, 4, 5] or [4, 5] (got shape (5, 4))", {"noise": torch.ones(5, 4)}),
        (TypeError, "noise must be of a floating-point dtype (got torch.int64)", {"noise": torch.ones(4, 5, dtype=torch.int64)}),
        (ValueError, "noise_strength needs noise (got noise=None)", {"noise_strength": 1.0}),
        (ValueError, "noise_strength needs noise (got noise=None)", {"noise_strength": torch.ones(3)}),
        (ValueError, "noise_strength must have 1 element (got shape (4,))", {"noise": NOISE, "noise_strength": torch.ones(4)}),
        (
            ValueError,
            "noise_strength must be on the device of the image, cpu (got meta)",
            {"noise": NOISE, "noise_strength": torch.ones(3, device="meta")},
        ),
        (TypeError, "noise_strength must be a real number (got '1')", {"noise": NOISE, "noise_strength": "1"}),
        (ValueError, "bias must have shape [3], the length of the channels of the image (got shape (4,))", {"bias": torch.ones(4)}),
        (ValueError, f"act must be one of {ACT_NAMES} (got 'gelu')", {"act": "gelu"}),
        (TypeError, "gain must be a real number (got '2')", {"gain": "2"}),
        (ValueError, "eps must be greater than 0 (got 0.0)", {"eps": 0}),
        (ValueError, "eps must be greater than 0 (got nan)", {"eps": float("nan")}),
        (TypeError, "eps must be a real number (got '1e-8')", {"eps": "1e-8"}),
        (ValueError, "impl must be one of auto, native, reference (got 'ref')", {"impl": "ref"}),
    ],
)
def test_rejects_arguments(implementation, error, message, kwargs):
    assert_rejects(error, f"adain: {message}", adain, X, **kwargs)


def test_rejects_images(implementation):
    assert_rejects(TypeError, "adain: x must be a tensor (got list)", adain, [1.0])
    assert_rejects(TypeError, "adain: x must be of a floating-point dtype (got torch.int32)", adain, X.int())
    assert_rejects(ValueError, "adain: x must have 4 dimensions (got shape (3, 4, 5))", adain, X[0])
