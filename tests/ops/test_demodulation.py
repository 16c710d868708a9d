"""Private parts of modulated_conv2d: the demodulation by itself, that of a whole network at once, and what float16 needs."""

import pytest
import torch
from support import ELEMENTARY, SIXTEEN_BIT, assert_close_in_norm, assert_right, gradcheck, gradgradcheck, leaf, randn

from stylegan_ops import modulated_conv2d, setup_filter
from stylegan_ops.ops._demodulation import NetworkStyles, demodulation, root_of_terms, size_of_largest

BLUR = setup_filter([1, 3, 3, 1])


def definition(weight, styles, eps):
    w = styles.double()[:, None, :, None, None] * weight.double()
    return (w.square().sum([2, 3, 4]) + eps).rsqrt()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(3, 5, 3, 3), (4, 600, 1, 1), (1, 1, 3, 2), (2, 3, 0, 3)])
@pytest.mark.parametrize("n", [0, 1, 9])
def test_demodulation(kernel, shape, n, dtype):
    weight, styles = randn(*shape, dtype=dtype), randn(n, shape[1], dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    terms = shape[1] * shape[2] * shape[3] + 4 * ELEMENTARY
    for w in (weight, weight.flip([2, 3]), weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)):
        assert_right(demodulation(w, styles, 1e-3), definition(w, styles, 1e-3), dtype=styles.dtype, terms=terms)


def test_derivatives_of_demodulation(kernel):
    weight, styles = leaf(randn(3, 4, 2, 3)), leaf(randn(2, 4))
    gradcheck(lambda w, s: demodulation(w, s, 1e-8), weight, styles)
    gradgradcheck(lambda w, s: demodulation(w, s, 1e-8), weight, styles)
    assert gradients_of_third_order(weight, styles).isfinite().all()


def gradients_of_third_order(weight, styles):
    y = demodulation(weight, styles, 1e-8).sum()
    for _ in range(3):
        (y,) = torch.autograd.grad(y.square().sum(), styles, create_graph=True)
    return y


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("is_bounded", [False, True])
def test_all_layers_at_once(kernel, dtype, is_bounded):
    """Every layer has what it would have made itself, and powers of two out of the range's way."""
    weights = [randn(*shape, dtype=dtype) for shape in ((4, 6, 3, 3), (3, 6, 1, 1), (9, 4, 3, 3), (3, 9, 1, 1))]
    demodulates = [True, False, True, False]
    styles = randn(4, 3, 9, dtype=dtype) * 300
    styles[2, 1] = 0
    made = NetworkStyles(weights, demodulates, dtype, is_bounded, 1e-8)(styles)
    for weight, demodulated, given, style in zip(weights, demodulates, styles, made, strict=True):
        given = given[:, : weight.shape[1]].double()
        scale = definition(weight, given, 1e-8) if demodulated else torch.ones(3, len(weight), dtype=torch.float64)
        if is_bounded:
            assert 0.5 <= weight.abs().max() / style.size <= 1
            divisor = size_of_largest(given) * root_of_terms(weight[0].numel())
            given, scale = given / divisor, scale * divisor * style.size
        assert torch.equal(style.styles.double(), given)
        if demodulated or is_bounded:
            assert_right(style.scale, scale, dtype=dtype, terms=weight[0].numel() + 5 * ELEMENTARY)
        else:
            assert style.scale is None


def test_the_size_of_the_largest_is_a_power_of_two(native):
    v = torch.tensor([[0.0, -0.75], [1.0, 0.0], [3.0, -4.0], [0.0, 0.0], [torch.inf, 1.0], [1e-30, 2e-30]])
    sizes = size_of_largest(v).flatten()
    assert sizes[:5].tolist() == [1.0, 2.0, 8.0, 1.0, 1.0]
    assert torch.equal(torch.frexp(sizes).mantissa, torch.full([6], 0.5))
    assert 0.5 <= v[5].max() / sizes[5] <= 1


@pytest.mark.parametrize("kwargs", [{}, {"up": 2, "resample_filter": BLUR, "flip_weight": False}, {"demodulate": False}])
@pytest.mark.parametrize("dtype", SIXTEEN_BIT)
def test_large_styles_and_activations_stay_finite(kernel, dtype, kwargs):
    """Styles to 1e3 and activations to 256, at worst all of one sign: 256 * 1e3 is beyond float16, as is a sum of 576 times 256."""
    x, styles = torch.full([2, 64, 6, 6], 256.0, dtype=dtype), torch.full([2, 64], 1e3)
    weight = randn(3, 64, 3, 3, dtype=torch.float32).abs()
    styles[1] = randn(64, dtype=torch.float32) * 300
    weight = weight * (1e-6 if "demodulate" in kwargs else 1)  # without demodulation the result itself has to fit
    truth = modulated_conv2d(x.double(), weight.double(), styles.double(), padding=1, impl="reference", **kwargs)
    for grad in (False, True):
        inputs = [leaf(t) if grad else t for t in (x, weight, styles)]
        out = modulated_conv2d(*inputs, padding=1, **kwargs)
        assert_close_in_norm(out, truth, dtype=dtype, terms=600, roundings=4)
        if grad:
            out.sum().backward()
            assert all(t.grad.isfinite().all() for t in inputs)


@pytest.mark.parametrize("kwargs", [{}, {"up": 2, "resample_filter": BLUR, "flip_weight": False}, {"demodulate": False}])
def test_float16_has_headroom_backward(kernel, kwargs):
    """What a gradient scaler multiplies: cotangents of 2^9 whose gradients fit float16, also on the way."""
    x, weight, styles = (
        randn(2, 96, 6, 6, dtype=torch.float16),
        randn(96, 96, 3, 3, dtype=torch.float32),
        randn(2, 96, dtype=torch.float32) + 1,
    )
    weight = weight / (30 if "demodulate" in kwargs else 1)
    inputs, exact = [leaf(t) for t in (x, weight, styles)], [leaf(t.double()) for t in (x, weight, styles)]
    y, truth = modulated_conv2d(*inputs, padding=1, **kwargs), modulated_conv2d(*exact, padding=1, impl="reference", **kwargs)
    dy = randn(*y.shape, dtype=torch.float16) * 2**9
    wanted = torch.autograd.grad(truth, exact, dy.double())
    for which, a, b in zip(("x", "weight", "styles"), torch.autograd.grad(y, inputs, dy), wanted, strict=True):
        if b.abs().max() < torch.finfo(torch.float16).max:
            assert_close_in_norm(a, b, dtype=torch.float16, terms=96 * 9 + dy.numel(), roundings=8, what=which)
    assert wanted[0].abs().max() < torch.finfo(torch.float16).max
